"""The trace context of requests: those that enter this process, and those that leave it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Token

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from atoll.trace import headers
from atoll.trace.attributes import FROM_OUTSIDE, PEER_SERVICE, PEER_SITE, Attributes
from atoll.trace.headers import Incoming
from atoll.trace.recorder import Recorder
from atoll.trace.sampling import SCOPE, Scope, in_request, installed, unsampled
from atoll.trace.spans import MAX_TEXT, Hop


class Entered:
    """A request that has entered the process. The caller must call `leave` or `end` where the request leaves the process.

    Args:
        hop: the request's span; `None` if the request is not recorded.
        scope: the request that this thread or task works for from now on.
    """

    __slots__ = ("_scope", "hop")

    def __init__(self, hop: Hop | None, scope: Scope) -> None:
        self.hop = hop
        self._scope: Token[Scope | None] | None = SCOPE.set(scope)

    def leave(self) -> None:
        """Restore the earlier context; the span does not end."""
        if self._scope is not None:
            if self.hop is not None:
                self.hop.leave()
            SCOPE.reset(self._scope)
            self._scope = None

    def end(self) -> None:
        """Restore the earlier context, and end the span."""
        self.leave()
        if self.hop is not None:
            self.hop.span.end()


def enter(
    recorder: Recorder,
    incoming: Incoming | None,
    kind: SpanKind,
    describe: Callable[[], tuple[str, Attributes]],
    *,
    may_begin: bool = True,
) -> Entered:
    """Begin the span of a request that has entered this process, separate from any trace that the thread worked for before.

    Args:
        recorder: the recorder of this process.
        incoming: the request's trace context.
        kind: server or consumer.
        describe: a function that returns the span's name and attributes; called only if the request is recorded.
        may_begin: whether a request without a trace context may begin a trace.
    """
    if not (incoming.sampled if incoming is not None else may_begin and recorder.chance()):
        return Entered(None, unsampled(incoming))
    parent = contexts.Context()
    name, attributes = _described(describe)
    if incoming is not None:
        remote = trace.SpanContext(incoming.trace_id, incoming.span_id, True, trace.TraceFlags(1))
        parent = trace.set_span_in_context(trace.NonRecordingSpan(remote), parent)
        if incoming.service:
            attributes.update({PEER_SERVICE: incoming.service, PEER_SITE: incoming.site})
        else:
            attributes[FROM_OUTSIDE] = True
    begun = recorder.start(name, kind, attributes, parent=parent)
    token = contexts.attach(trace.set_span_in_context(begun, parent))
    return Entered(Hop(begun, token), Scope(begun, incoming.state if incoming is not None else "", {}))


@contextmanager
def work(name: str) -> Iterator[None]:
    """Record the block as a trace of its own, with the probability `ratio`; within a request, record it as part of the request.

    Args:
        name: the name of the span.
    """
    recorder = installed()
    if recorder is None or in_request():
        yield
        return
    entered = enter(recorder, None, SpanKind.INTERNAL, lambda: (name, {}))
    try:
        yield
    except BaseException as error:
        if entered.hop is not None:
            entered.hop.failed(error)
        raise
    finally:
        entered.end()


def _described(describe: Callable[[], tuple[str, Attributes]]) -> tuple[str, Attributes]:
    """Return the name and the attributes of a span. If `describe` fails, an attribute contains the error, and the request continues."""
    try:
        return describe()
    except Exception as error:
        return "request", {"atoll.undescribed": f"{type(error).__name__}: {error}"[:MAX_TEXT]}


def outgoing() -> dict[str, str]:
    """Return the headers by which a receiver continues the current trace, or does not record; none outside a request."""
    scope = SCOPE.get()
    if scope is None or (recorder := installed()) is None:
        return {}
    if scope.root is None:
        return scope.unsampled
    context = trace.get_current_span().get_span_context()
    return {
        headers.TRACEPARENT: headers.traceparent(context.trace_id, context.span_id, sampled=True),
        headers.TRACESTATE: headers.tracestate(recorder.identity.sender, scope.state),
    }

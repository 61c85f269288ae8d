"""The recorder of a process: decides what is recorded, and makes the spans.

A process without a recorder, and a request that is not recorded, must cost next to nothing. So the decision is made once, where a request
enters. All other code calls `sampled`, which reads one context variable. Spans are made by OpenTelemetry's SDK, and the current span is
kept in OpenTelemetry's context, so that other instrumentation joins the same trace.
"""

from __future__ import annotations

import random
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanKind, Status, StatusCode

from atoll.trace import bounds, headers
from atoll.trace.headers import Incoming

REQUEST_BYTES = "atoll.request.bytes"
RESPONSE_BYTES = "atoll.response.bytes"
PEER_SERVICE = "atoll.peer.service"
PEER_SITE = "atoll.peer.site"
FROM_OUTSIDE = "atoll.from_outside"
"""Attribute of a server's span whose request came from a program outside this project. No store has the span of that program."""

LINGER_NS = 60_000_000_000
"""Nanoseconds after the end of a request during which its remaining threads are still recorded as part of it. Without a limit, a thread
that never ends would be recorded for ever."""

MAX_TEXT = 300
"""Greatest number of characters of an error."""

MAX_DIGITS = 18
"""Greatest number of digits of a size, so that a size invented by a client fits into 63 bits."""

_UNTOLD = re.compile(r"Traceback \(most recent|\[SQL: |\[parameters: ")
"""Pattern of the beginning of the part of an error's message that is not recorded."""

_SAMPLED, _OK, _SCOPE_OF_SDK = trace.TraceFlags(trace.TraceFlags.SAMPLED), Status(), InstrumentationScope("atoll")

Attributes = MutableMapping[str, Any]


@dataclass(frozen=True)
class Identity:
    """The process that records.

    Attributes:
        service: the name of the process's service, such as `nova`.
        site: the site of the process; empty for a client.
        cloud: the cloud's name.
        peers: the service that listens at each `host:port` that this process may connect to.
    """

    service: str
    site: str
    cloud: str = ""
    peers: Mapping[str, str] | None = None

    @property
    def sender(self) -> str:
        """Value of the key `atoll` in `tracestate`."""
        return f"{self.service}@{self.site}"


class Recorder:
    """Makes the spans of one process.

    Args:
        identity: the identity of the process.
        ratio: the share of requests that are recorded if the sender has not decided, from 0 to 1.
        processors: the receivers of the spans.
    """

    def __init__(self, identity: Identity, ratio: float, *processors: SpanProcessor) -> None:
        self.identity = identity
        self.ratio = ratio
        attributes = {"service.name": identity.service, "service.namespace": identity.cloud, "atoll.site": identity.site}
        self._key = secrets.token_bytes(16)
        self.provider = TracerProvider(sampler=ALWAYS_ON, resource=Resource(attributes), span_limits=bounds.LIMITS, shutdown_on_exit=False)
        self._processors = processors
        for processor in processors:
            self.provider.add_span_processor(processor)
        self.tracer = self.provider.get_tracer("atoll")

    def chance(self) -> bool:
        """Decide at random, with the probability `ratio`, whether to record a request whose sender has not decided."""
        return self.ratio > 0 and random.random() < self.ratio  # noqa: S311 - not a secret

    def digest(self, value: bytes) -> str:
        """Return a keyed digest of 16 hexadecimal digits. Its key is this process's secret, so that nobody can guess the value."""
        return blake2b(value, digest_size=8, key=self._key).hexdigest()

    def start(
        self,
        name: str,
        kind: SpanKind,
        attributes: Attributes | None = None,
        *,
        parent: contexts.Context | None = None,
        start_ns: int | None = None,
    ) -> Span:
        """Return a new span that begins now, with texts shortened as `bounds` demands.

        Args:
            name: the name of the span.
            kind: the kind of the span.
            attributes: the attributes of the span; long ones are shortened in place.
            parent: the context that contains the span's parent; `None` means the current context.
            start_ns: the start in nanoseconds since 1970; `None` means now.
        """
        if attributes:
            bounds.bound(attributes, self.digest)
        name = bounds.text(name, bounds.MAX_NAME, self.digest)
        begun = self.tracer.start_span(name, parent, kind, attributes, start_time=start_ns)
        assert isinstance(begun, Span), "of the SDK"
        return begun

    def take(self, span: ReadableSpan) -> None:
        """Pass a finished span that was made without the SDK to the processors."""
        for processor in self._processors:
            processor.on_end(span)

    def stop(self) -> None:
        """Export the spans that have ended."""
        self.provider.shutdown()


class _Current:
    """The recorder of this process."""

    recorder: Recorder | None = None


def install(recorder: Recorder | None) -> None:
    """Set the recorder of this process; `None` ends recording."""
    _Current.recorder = recorder
    if recorder is not None and isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        trace.set_tracer_provider(recorder.provider)


def installed() -> Recorder | None:
    """Return the recorder of this process."""
    return _Current.recorder


class _Scope:
    """The request that a thread or task works for.

    Attributes:
        root: the span with which the request entered this process; `None` if it is not recorded.
        state: the entries of other vendors in `tracestate`.
        unsampled: the headers by which receivers learn that the request is not recorded.
    """

    __slots__ = ("root", "state", "unsampled")

    def __init__(self, root: Span | None, state: str, unsampled: dict[str, str]) -> None:
        self.root = root
        self.state = state
        self.unsampled = unsampled


_SCOPE: ContextVar[_Scope | None] = ContextVar("atoll_trace", default=None)


def sampled() -> Recorder | None:
    """Return the recorder if the present work of this thread or task is recorded; else `None`."""
    scope = _SCOPE.get()
    if scope is None or scope.root is None:
        return None
    ended = scope.root.end_time
    if ended is not None and time.time_ns() - ended > LINGER_NS:
        return None
    return _Current.recorder


def in_request() -> bool:
    """Return whether this thread or task works for a request, recorded or not, in a process that records."""
    return _SCOPE.get() is not None and _Current.recorder is not None


def _unsampled(incoming: Incoming | None) -> _Scope:
    ids = (incoming.trace_id, incoming.span_id) if incoming is not None else (random.getrandbits(127) + 1, random.getrandbits(63) + 1)
    return _Scope(None, "", {headers.TRACEPARENT: headers.traceparent(*ids, sampled=False)})


@contextmanager
def unrecorded() -> Iterator[None]:
    """Record none of the work inside the block."""
    token = _SCOPE.set(_unsampled(None))
    try:
        yield
    finally:
        _SCOPE.reset(token)


@contextmanager
def nothing_current() -> Iterator[None]:
    """Run the block as work that belongs to no request, so that it joins no trace."""
    token, attached = _SCOPE.set(None), contexts.attach(contexts.Context())
    try:
        yield
    finally:
        contexts.detach(attached)
        _SCOPE.reset(token)


def linked(name: str, to: trace.SpanContext) -> None:
    """Record in the current trace a span with a link to `to`, the span of another trace that did the work; do nothing within one trace."""
    recorder = sampled()
    if recorder is not None and trace.get_current_span().get_span_context().trace_id != to.trace_id:
        recorder.tracer.start_span(name, kind=SpanKind.INTERNAL, links=[trace.Link(to)]).end()


def length(told: object) -> int:
    """Return the number of bytes that a `Content-Length` header states; 0 if the value is not a number, or too large for the store."""
    text = str(told or "")
    return int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else 0


class Hop:
    """A span that has not ended, to which sizes, a status and an error can be added.

    Attributes:
        span: the span of OpenTelemetry.
    """

    __slots__ = ("_token", "span")

    def __init__(self, span: trace.Span, token: Any = None) -> None:
        self.span = span
        self._token = token

    def sizes(self, request: int | None, response: int | None) -> None:
        """Add the sizes of the request and of the answer, in bytes."""
        if request is not None:
            self.span.set_attribute(REQUEST_BYTES, request)
        if response is not None:
            self.span.set_attribute(RESPONSE_BYTES, response)

    def status(self, code: int) -> None:
        """Add the status of an HTTP answer."""
        self.span.set_attribute("http.response.status_code", code)
        if code >= 500:
            self.span.set_status(Status(StatusCode.ERROR, f"status {code}"))

    def failed(self, error: BaseException) -> None:
        """Add the exception with which the span ended."""
        self.span.set_status(_failure(error))

    def leave(self) -> None:
        """Make the previous span the current one again, without ending this span."""
        if self._token is not None:
            contexts.detach(self._token)
            self._token = None

    def end(self) -> None:
        """End the span, and make the previous span the current one again."""
        self.leave()
        self.span.end()


def _failure(error: BaseException) -> Status:
    # SQLAlchemy's errors contain the parameters of the statement. No store or receiver takes half of a surrogate pair.
    text = _UNTOLD.split(str(error), maxsplit=1)[0].encode(errors="replace").decode()
    text = " ".join(text.split())[:MAX_TEXT]
    return Status(StatusCode.ERROR, f"{type(error).__name__}: {text}" if text else type(error).__name__)


def begin(recorder: Recorder, name: str, kind: SpanKind, attributes: Attributes | None = None) -> Hop:
    """Begin a span below the current one, make it the current one, and return it."""
    span = recorder.start(name, kind, attributes)
    return Hop(span, contexts.attach(trace.set_span_in_context(span)))


def finished(recorder: Recorder, name: str, start: int, attributes: Attributes, error: BaseException | None = None) -> None:
    """Record a call that ends now, as a span without children.

    Args:
        recorder: the recorder of the process.
        name: the name of the span.
        start: the start of the call in nanoseconds since 1970.
        attributes: the attributes of the span.
        error: the exception that ended the call; `None` if it succeeded.
    """
    # Most spans are statements. They have ended already, so they need none of the features that make the SDK's `start_span` slow.
    parent = trace.get_current_span().get_span_context()
    if not parent.is_valid:
        return
    bounds.bound(attributes, recorder.digest)
    recorder.take(
        ReadableSpan(
            name=bounds.text(name, bounds.MAX_NAME, recorder.digest),
            context=trace.SpanContext(parent.trace_id, random.getrandbits(63) + 1, False, _SAMPLED),
            parent=parent,
            resource=recorder.provider.resource,
            attributes=attributes,
            kind=SpanKind.CLIENT,
            status=_OK if error is None else _failure(error),
            start_time=start,
            end_time=time.time_ns(),
            instrumentation_scope=_SCOPE_OF_SDK,
        )
    )


@contextmanager
def span(recorder: Recorder, name: str, kind: SpanKind, attributes: Attributes | None = None) -> Iterator[Hop]:
    """Record the block as a span, which is yielded; an exception is recorded in the span and raised again."""
    hop = begin(recorder, name, kind, attributes)
    try:
        yield hop
    except BaseException as error:
        hop.failed(error)
        raise
    finally:
        hop.end()


class Entered:
    """A request that has entered the process. The caller must call `leave` or `end` where the request leaves the process.

    Args:
        hop: the request's span; `None` if the request is not recorded.
        scope: the request that this thread or task works for from now on.
    """

    __slots__ = ("_scope", "hop")

    def __init__(self, hop: Hop | None, scope: _Scope) -> None:
        self.hop = hop
        self._scope: Token[_Scope | None] | None = _SCOPE.set(scope)

    def leave(self) -> None:
        """Restore the earlier context; the span does not end."""
        if self._scope is not None:
            if self.hop is not None:
                self.hop.leave()
            _SCOPE.reset(self._scope)
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
        return Entered(None, _unsampled(incoming))
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
    return Entered(Hop(begun, token), _Scope(begun, incoming.state if incoming is not None else "", {}))


@contextmanager
def work(name: str) -> Iterator[None]:
    """Record the block as a trace of its own, with the probability `ratio`; within a request, record it as part of the request.

    Args:
        name: the name of the span.
    """
    recorder = _Current.recorder
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
    scope, recorder = _SCOPE.get(), _Current.recorder
    if scope is None or recorder is None:
        return {}
    if scope.root is None:
        return scope.unsampled
    context = trace.get_current_span().get_span_context()
    return {
        headers.TRACEPARENT: headers.traceparent(context.trace_id, context.span_id, sampled=True),
        headers.TRACESTATE: headers.tracestate(recorder.identity.sender, scope.state),
    }

"""Spans below the current one. OpenTelemetry's context keeps the current span, so that other instrumentation joins the same trace."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanKind, Status, StatusCode

from atoll.trace import bounds, tasks
from atoll.trace.attributes import REQUEST_BYTES, RESPONSE_BYTES, TASK, Attributes
from atoll.trace.recorder import Recorder
from atoll.trace.sampling import sampled

MAX_TEXT = 300
"""Greatest number of characters of an error."""

MAX_DIGITS = 18
"""Greatest number of digits of a size, so that a size invented by a client fits into 63 bits."""

_UNTOLD = re.compile(r"Traceback \(most recent|\[SQL: |\[parameters: ")
"""Pattern of the beginning of the part of an error's message that is not recorded."""

_SAMPLED, _OK, _SCOPE_OF_SDK = trace.TraceFlags(trace.TraceFlags.SAMPLED), Status(), InstrumentationScope("atoll")


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
    if path := tasks.current():
        attributes = {**(attributes or {}), TASK: path}
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

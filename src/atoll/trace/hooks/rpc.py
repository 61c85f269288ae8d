"""Records the messages that services send over their bus, with any driver, and the work that the messages cause.

Replaced: `Transport._send` and `_send_notification` of oslo_messaging/transport.py, `RPCServer._process_incoming` of rpc/server.py, and
`RPCDispatcher.dispatch` of rpc/dispatcher.py. The trace context travels in the message's context; the receiver removes it before upstream
reads the message's context. Sizes come from the driver `zenoh` (`atoll.bus.payload`); with another driver, a message's size is the size of
its context and body as JSON.
"""

from __future__ import annotations

import threading
from functools import wraps
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import SpanKind
from oslo_messaging import transport
from oslo_messaging.rpc import dispatcher, server
from oslo_serialization import jsonutils

from atoll.bus import payload
from atoll.trace import headers, names, propagation, sampling, spans
from atoll.trace.recorder import Recorder
from atoll.trace.spans import Hop


class _Sizes(threading.local):
    """Sizes in bytes of the messages that this thread has encoded and decoded for the bus since `clear`; `None` means no message."""

    encoded: int | None = None
    decoded: int | None = None

    def clear(self) -> None:
        self.encoded = self.decoded = None


_SIZES = _Sizes()


def install() -> None:
    """Replace the functions that the module's description names; a second call in one process has no effect."""
    if hasattr(transport.Transport._send, "__wrapped__"):
        return
    transport.Transport._send = _send(transport.Transport._send)
    transport.Transport._send_notification = _send_notification(transport.Transport._send_notification)
    server.RPCServer._process_incoming = _process_incoming(server.RPCServer._process_incoming)
    dispatcher.RPCDispatcher.dispatch = _dispatch(dispatcher.RPCDispatcher.dispatch)
    payload.observe(_encoded, _decoded)


def _encoded(size: int) -> None:
    _SIZES.encoded = size


def _decoded(size: int) -> None:
    _SIZES.decoded = size


def _send(original: Any) -> Any:
    @wraps(original)
    def send(self: Any, target: Any, ctxt: dict[str, Any], message: dict[str, Any], wait_for_reply: Any = None, **options: Any) -> Any:
        current = sampling.sampled()
        if current is None:
            return original(self, target, ctxt, message, wait_for_reply, **options)
        name, attributes = _describe(target, message)
        kind = SpanKind.CLIENT if wait_for_reply else SpanKind.PRODUCER
        with spans.span(current, name, kind, attributes) as hop:
            ctxt = {**ctxt, **propagation.outgoing()}
            _SIZES.clear()
            try:
                return original(self, target, ctxt, message, wait_for_reply, **options)
            finally:
                # If a message stays in this process, this thread decodes it too.
                hop.sizes(_size(_SIZES.encoded, [ctxt, message]), _SIZES.decoded if wait_for_reply else None)

    return send


def _send_notification(original: Any) -> Any:
    @wraps(original)
    def send(self: Any, target: Any, ctxt: dict[str, Any], message: dict[str, Any], *more: Any, **options: Any) -> Any:
        current = sampling.sampled()
        if current is None:
            return original(self, target, ctxt, message, *more, **options)
        event = str(message.get("event_type", ""))
        attributes = {"messaging.system": "oslo", "messaging.destination.name": str(target.topic), "messaging.operation.name": "notify"}
        with spans.span(current, f"notify {event}", SpanKind.PRODUCER, attributes) as hop:
            _SIZES.clear()
            try:
                return original(self, target, ctxt, message, *more, **options)
            finally:
                hop.sizes(_size(_SIZES.encoded, [ctxt, message]), None)

    return send


def _describe(target: Any, message: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    method = str(message.get("method", ""))
    attributes: dict[str, Any] = {"rpc.system": "oslo", "rpc.method": method, "messaging.destination.name": str(target.topic or "")}
    if target.server:
        attributes["atoll.rpc.server"] = str(target.server)
    if target.fanout:
        attributes["atoll.rpc.fanout"] = True
    return names.rpc(str(target.topic or ""), method, message.get("args")), attributes


def _size(known: int | None, message: Any) -> int | None:
    if known is not None:
        return known
    try:
        return len(jsonutils.dump_as_bytes(message))
    except (TypeError, ValueError):
        return None


def _process_incoming(original: Any) -> Any:
    @wraps(original)
    def process(self: Any, incoming: Any) -> Any:
        current, context = sampling.installed(), incoming[0].ctxt
        if current is None or not isinstance(context, dict):
            return original(self, incoming)
        parent = headers.read(_text(context.pop(headers.TRACEPARENT, None)), _text(context.pop(headers.TRACESTATE, None)))
        message = incoming[0]
        entered = propagation.enter(current, parent, SpanKind.SERVER, lambda: _describe(self._target, message.message), may_begin=False)
        try:
            return _processed(original, self, incoming, entered.hop)
        finally:
            entered.end()

    return process


def _processed(original: Any, self: Any, incoming: Any, hop: Hop | None) -> Any:
    if hop is None:
        return original(self, incoming)
    message = incoming[0]
    _SIZES.clear()
    try:
        return original(self, incoming)
    finally:
        # The size of the request is that of the frame, where the driver keeps it.
        request = getattr(message, "_request", None)
        size = len(request.body) if request is not None else _size(None, [message.ctxt, message.message])
        hop.sizes(size, _SIZES.encoded if request is not None and request.wants_reply else None)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _dispatch(original: Any) -> Any:
    @wraps(original)
    def dispatch(self: Any, incoming: Any) -> Any:
        try:
            return original(self, incoming)
        except BaseException as error:
            if sampling.sampled() is not None:
                cause = error.exc_info[1] if isinstance(error, dispatcher.ExpectedException) else error
                Hop(trace.get_current_span()).failed(cause)
            raise

    return dispatch


__all__ = ["Recorder", "install"]

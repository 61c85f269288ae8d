"""Records the requests that a WSGI application answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from opentelemetry.trace import SpanKind

from atoll.trace import headers, names, propagation, sampling, spans
from atoll.trace.propagation import Entered

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def traced(application: Application) -> Application:
    """Return an application that records the requests to `application`; without a recorder, return `application` itself."""
    current = sampling.installed()
    if current is None:
        return application

    def record(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        incoming = headers.read(environ.get("HTTP_TRACEPARENT"), environ.get("HTTP_TRACESTATE"), environ.get("HTTP_X_TRACE_INFO"))
        entered = propagation.enter(current, incoming, SpanKind.SERVER, lambda: _describe(environ))
        if entered.hop is None:
            try:
                return application(environ, start_response)
            finally:
                entered.leave()
        return _record(application, environ, start_response, entered)

    return record


def _describe(environ: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    path, method = f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}", environ["REQUEST_METHOD"]
    attributes = {"http.request.method": method, "url.path": names.safe_path(path)}
    if environ.get("QUERY_STRING"):
        attributes["url.query"] = names.safe_query(environ["QUERY_STRING"])
    if environ.get("HTTP_X_OPENSTACK_REQUEST_ID"):
        attributes["atoll.request_id"] = environ["HTTP_X_OPENSTACK_REQUEST_ID"]
    return names.http(method, path), attributes


class _Answer:
    """The body of an answer. It ends the span when the server has sent the body or has given up."""

    def __init__(self, parts: Iterable[bytes], entered: Entered, received: int, sent: list[int]) -> None:
        self._parts = parts
        self._entered = entered
        self._received = received
        self._sent = sent

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            self._sent[0] += len(part)
            yield part

    def close(self) -> None:
        try:
            if hasattr(self._parts, "close"):
                self._parts.close()
        finally:
            _end(self._entered, self._received, self._sent[0])


def _record(application: Application, environ: dict[str, Any], start_response: Callable[..., Any], entered: Entered) -> Iterable[bytes]:
    hop, sent = entered.hop, [0]
    assert hop is not None, "only recorded requests have an answer of this class"

    def start(status: str, answered: list[tuple[str, str]], *more: Any) -> Any:
        hop.status(int(status[:3]))
        sent[0] += len(status) + 11 + sum(len(name) + len(value) + 4 for name, value in answered)
        return start_response(status, answered, *more)

    received = _received(environ)
    try:
        parts = application(environ, start)
    except BaseException as error:
        hop.failed(error)
        _end(entered, received, sent[0])
        raise
    finally:
        entered.leave()
    if isinstance(parts, list | tuple):
        sent[0] += sum(map(len, parts))
        _end(entered, received, sent[0])
        return parts
    return _Answer(parts, entered, received, sent)


def _end(entered: Entered, received: int, sent: int) -> None:
    if entered.hop is not None:
        entered.hop.sizes(received, sent)
        entered.hop.span.end()


def _received(environ: dict[str, Any]) -> int:
    head = sum(len(name) - 1 + len(value) for name, value in environ.items() if name.startswith("HTTP_"))
    return head + len(environ.get("PATH_INFO", "")) + 16 + spans.length(environ.get("CONTENT_LENGTH"))

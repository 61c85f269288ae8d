"""The sinks of spans: the site's store, and an OTLP endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import StatusCode

from atoll.trace import store
from atoll.trace.attributes import REQUEST_BYTES, RESPONSE_BYTES
from atoll.trace.sampling import unrecorded

OTLP_TIMEOUT_S = 5.0
"""Seconds to wait for an endpoint to accept a batch, including retries, before the batch is dropped."""


class StoreSink:
    """Writes spans into the store of a site.

    Args:
        path: the path of the store.
        max_bytes: the greatest size of the store, in bytes.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._writer = store.Writer(path, max_bytes)

    def write(self, spans: list[ReadableSpan]) -> None:
        """Insert a batch in one transaction."""
        self._writer.write([record_of(span) for span in spans])

    def close(self) -> None:
        """Close the file of the store."""
        self._writer.close()


class OtlpSink:
    """Sends spans to an OTLP endpoint, by HTTP and protobuf.

    Args:
        endpoint: a base URL such as `http://collector:4318`.
    """

    def __init__(self, endpoint: str) -> None:
        self._url = f"{endpoint.rstrip('/')}/v1/traces"
        self._exporter: Any = None

    def write(self, spans: list[ReadableSpan]) -> None:
        """Send a batch to the endpoint.

        Raises:
            ConnectionError: the endpoint did not accept the batch.
        """
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        if self._exporter is None:
            self._exporter = OTLPSpanExporter(endpoint=self._url, timeout=OTLP_TIMEOUT_S)
        with unrecorded():
            result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            raise ConnectionError(f"{self._url} did not accept {len(spans)} spans")

    def close(self) -> None:
        """Close the connection to the endpoint."""
        if self._exporter is not None:
            self._exporter.shutdown()


def record_of(span: ReadableSpan) -> store.Span:
    """Return the record of a span for the store."""
    context, resource = span.get_span_context(), span.resource.attributes
    assert context is not None, "a span of the SDK has one"
    attributes = dict(span.attributes or {})
    request, response = attributes.pop(REQUEST_BYTES, None), attributes.pop(RESPONSE_BYTES, None)
    if span.links:
        attributes["links"] = [f"{link.context.trace_id:032x}/{link.context.span_id:016x}" for link in span.links]
    failed = span.status.status_code is StatusCode.ERROR
    return store.Span(
        trace=f"{context.trace_id:032x}",
        span=f"{context.span_id:016x}",
        parent=f"{span.parent.span_id:016x}" if span.parent is not None else "",
        kind=span.kind.name.lower(),
        name=span.name,
        service=str(resource.get("service.name", "")),
        site=str(resource.get("atoll.site", "")),
        start=span.start_time or 0,
        end=span.end_time or 0,
        error=(span.status.description or "failed") if failed else None,
        request=request if isinstance(request, int) else None,
        response=response if isinstance(response, int) else None,
        attributes=attributes,
    )

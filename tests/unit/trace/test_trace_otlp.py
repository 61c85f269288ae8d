"""Spans go to a receiver of OTLP over HTTP and protobuf, and one that is away or slow stops nobody."""

import gzip
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from atoll.trace import headers, sampling, spans
from atoll.trace.hooks.wsgi import traced


class Receiver(ThreadingHTTPServer):
    """Keeps what it is sent."""

    def __init__(self, delay_s: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.delay_s, self.paths, self.parents, self.spans = delay_s, [], [], []
        self.come, self.go_on = threading.Semaphore(0), threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/base"


class Handler(BaseHTTPRequestHandler):
    server: Any

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.go_on.wait(self.server.delay_s)
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            attributes = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.server.spans += [(attributes, span) for span in scope.spans]
        self.server.paths.append(self.path)
        self.server.parents.append(self.headers.get("traceparent"))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.server.come.release()

    def log_message(self, *_args):
        pass


@pytest.fixture
def receive():
    made = []

    def receive_(**options) -> Receiver:
        made.append(Receiver(**options))
        return made[-1]

    yield receive_
    for each in made:
        each.go_on.set()
        each.shutdown()
        each.server_close()


def ask(times=1, work=lambda: None):
    def answer(_environ, start_response):
        work()
        start_response("200 OK", [])
        return [b"x"]

    serve = traced(answer)
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/v3", "HTTP_TRACEPARENT": headers.traceparent(0xAB, 0xCD, sampled=True)}
    for _ in range(times):
        serve(environ, lambda *_args: None)


def test_a_receiver_gets_the_spans(record, receive):
    receiver = receive()
    recording = record(endpoint=receiver.url)
    ask()
    assert receiver.come.acquire(timeout=20)
    ((resource, span),) = receiver.spans
    assert resource == {"service.name": "nova", "service.namespace": "cloud", "atoll.site": "paris"}
    assert (span.name, span.trace_id, span.parent_span_id) == ("GET /v3", (0xAB).to_bytes(16), (0xCD).to_bytes(8))
    assert {each.key for each in span.attributes} >= {"atoll.request.bytes", "atoll.response.bytes", "http.response.status_code"}
    assert receiver.paths == ["/base/v1/traces"]
    assert len(recording.spans()) == 1, "sending them is not recorded"


def test_a_receiver_gets_statements_below_their_request(record, receive):
    """These spans are not made by the SDK's tracer."""
    receiver = receive()
    recording = record(endpoint=receiver.url)
    failure = LookupError("no such table")
    ask(work=lambda: spans.finished(sampling.sampled(), "SELECT ports", 5, {"db.system.name": "sqlite"}, failure))
    assert receiver.come.acquire(timeout=20)
    (_, statement), (_, request) = receiver.spans
    assert (statement.name, statement.trace_id, statement.parent_span_id) == ("SELECT ports", request.trace_id, request.span_id)
    assert (statement.kind, statement.status.code, statement.status.message) == (3, 2, "LookupError: no such table")
    assert statement.start_time_unix_nano == 5 < statement.end_time_unix_nano
    assert [each.name for each in recording.spans()] == ["SELECT ports", "GET /v3"]


def test_a_receiver_that_is_away_or_slow_stops_nobody(record, receive, monkeypatch, caplog):
    monkeypatch.setattr("atoll.trace.exporters.OTLP_TIMEOUT_S", 0.3)
    receiver = receive(delay_s=20.0)
    for endpoint in (receiver.url, "http://127.0.0.1:9"):
        caplog.clear()
        recording = record(endpoint=endpoint)
        begun = time.monotonic()
        ask(50)
        assert time.monotonic() - begun < 1.0
        _store, otlp = recording.recorder.provider._active_span_processor._span_processors
        assert otlp.force_flush(20_000)
        assert otlp.dropped == 50
        assert caplog.text.count("spans are dropped") == 1
        assert len(recording.spans()) >= 1

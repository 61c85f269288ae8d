"""One unbroken tree through HTTP, threads, executors, messages and statements; and nothing of what is not to be recorded."""

import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import futurist
import oslo_messaging
import pytest
import requests
import sqlalchemy
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from oslo_config import cfg
from oslo_messaging import Target
from sqlalchemy.pool import StaticPool

from atoll.bus import options
from atoll.services import traced_calls
from atoll.trace import bounds, headers, names, propagation, sampling, spans, store, tasks
from atoll.trace.background import QUEUE, Background
from atoll.trace.exporters import record_of
from atoll.trace.hooks.wsgi import traced
from atoll.trace.recorder import Identity, Recorder

TRACE = 0xAB << 100
ASKED = {"HTTP_TRACEPARENT": headers.traceparent(TRACE, 7, sampled=True)}
OTHER = {"HTTP_TRACEPARENT": headers.traceparent(TRACE + 1, 7, sampled=True)}
ENVIRON = {
    "REQUEST_METHOD": "GET",
    "PATH_INFO": "/v2.1/servers/8ebf3bdd-5b32-4d2c-9ec5-7f4ba7a5b4a2",
    "SCRIPT_NAME": "",
    "QUERY_STRING": "a=b",
}


def ask(application, **more):
    """Have an application answer."""
    started = []
    body = application(ENVIRON | more, lambda *args: started.append(args))
    try:
        return started[0][0] if started else "", b"".join(body)
    finally:
        if hasattr(body, "close"):
            body.close()


def application(work=lambda: None):
    def answer(_environ, start_response):
        work()
        start_response("200 OK", [("Content-Length", "5")])
        return [b"12345"]

    return traced(answer)


def tree(spans):
    """Return the names of the spans with those of their parents; `None` for a parent that is not there."""
    names = {each.span: each.name for each in spans}
    return {(each.name, names.get(each.parent)) for each in spans}


def test_a_request_that_asks_is_recorded(record):
    recording = record()
    assert ask(application(), **ASKED, HTTP_TRACESTATE="other=1,atoll=gateway@lyon") == ("200 OK", b"12345")
    (span,) = recording.spans()
    assert (span.trace, span.parent, span.kind) == (f"{TRACE:032x}", f"{7:016x}", "server")
    assert (span.name, span.service, span.site) == ("GET /v2.1/servers/{id}", "nova", "paris")
    assert span.attributes["http.response.status_code"] == 200
    assert (span.attributes["atoll.peer.service"], span.attributes["atoll.peer.site"]) == ("gateway", "lyon")
    assert span.response > 5
    assert span.request > len(ENVIRON["PATH_INFO"])
    assert span.error is None


def test_a_request_that_does_not_ask_is_recorded_by_chance(record):
    recording = record(0.5)
    for _ in range(200):
        ask(application())
    assert 50 < len(recording.spans()) < 150


@pytest.mark.parametrize("flags", ["00", "02"])
def test_a_request_that_is_not_to_be_recorded_is_not(record, flags):
    recording = record(1.0)
    told = []
    ask(application(lambda: told.append(propagation.outgoing())), HTTP_TRACEPARENT=f"00-{TRACE:032x}-{7:016x}-{flags}")
    assert recording.spans() == []
    assert headers.read(told[0]["traceparent"]) == (TRACE, 7, False, "", "", ""), "who is asked in turn is told so"


@pytest.mark.parametrize("told", ["9" * 5000, str(2**64 - 1), "-1", "x"])
def test_an_invented_length_loses_no_span(record, told):
    """SQLite's numbers have 63 bits, and a batch with another one is lost as a whole."""
    recording = record()
    assert ask(application(), **ASKED, CONTENT_LENGTH=told)[0] == "200 OK"
    ask(application(), **ASKED)
    assert len(recording.spans()) == 2


HOSTILE = st.text(st.characters(exclude_categories=()), max_size=30) | st.just("\udcff") | st.just("é" * 200)


@settings(max_examples=25, deadline=None)
@given(path=HOSTILE, query=HOSTILE, method=HOSTILE, request_id=HOSTILE, times=st.sampled_from((1, 200)))
def test_whatever_a_client_sends_its_span_is_short_and_kept(tmp_path_factory, path, query, method, request_id, times):
    kept = InMemorySpanExporter()
    sampling.install(Recorder(Identity("nova", "paris"), 0.0, SimpleSpanProcessor(kept)))
    environ = {"REQUEST_METHOD": method * times, "PATH_INFO": f"/{path}" * times, "QUERY_STRING": query * times}
    ask(application(), **ASKED, **environ, HTTP_X_OPENSTACK_REQUEST_ID=request_id * times)
    sampling.install(None)
    (ended,) = kept.get_finished_spans()
    written = record_of(ended)
    with closing(store.Writer(tmp_path_factory.mktemp("spans") / "spans.db", 1_000_000)) as writer:
        writer.write([written])
    encode_spans([ended]).SerializeToString()
    assert len(written.name) <= bounds.MAX_NAME
    assert all(len(str(value)) <= bounds.MAX_TEXT for value in written.attributes.values())


def test_all_attributes_have_one_bound(record):
    recording = record()

    def work():
        with spans.span(sampling.sampled(), "n" * 10_000, SpanKind.CLIENT, {"a": "x" * 10_000, "b": ["y" * 1000] * 1000, "c": 1 << 80}):
            pass
        spans.finished(sampling.sampled(), "m" * 10_000, 1, {"d": "z" * 10_000})

    ask(application(work), **ASKED)
    told = {name: value for each in recording.spans() for name, value in each.attributes.items()}
    assert (len(told["a"]), len(told["d"]), len(told["b"]), len(told["b"][0])) == (1000, 1000, 50, 100)
    assert isinstance(told["c"], str)
    assert max(len(each.name) for each in recording.spans()) == bounds.MAX_NAME


def test_long_texts_that_differ_at_their_ends_stay_different(record):
    """The analysis takes calls with equal paths and queries for duplicates."""
    digest = record().recorder.digest
    one, same, other = (bounds.text("x" * 3000 + end, 1000, digest) for end in "112")
    assert one == same != other
    assert len(one) == 1000


def test_without_a_recorder_nothing_is_in_the_way():
    def answer(_environ, _start):
        return []

    assert traced(answer) is answer
    assert sampling.sampled() is None
    assert propagation.outgoing() == {}


def test_a_failure_is_recorded_and_goes_on(record):
    recording = record(1.0)

    def fail():
        raise KeyError("gone")

    with pytest.raises(KeyError):
        ask(application(fail))
    assert recording.spans()[0].error == "KeyError: 'gone'"


@pytest.mark.parametrize("text", ["no \ud800", "(sqlite3.IntegrityError) twice [SQL: INSERT] [parameters: ('secret',)]"])
def test_an_error_is_recorded_without_parameters_and_whatever_its_text(record, text):
    recording = record()

    def fail():
        raise LookupError(text)

    with pytest.raises(LookupError):
        ask(application(fail), **ASKED)
    (span,) = recording.spans()
    assert span.error in {"LookupError: no ?", "LookupError: (sqlite3.IntegrityError) twice"}


def test_an_answer_in_pieces_is_recorded_when_it_was_sent(record):
    recording = record(1.0)

    def answer(_environ, start_response):
        start_response("200 OK", [])
        return (b"x" * 100 for _ in range(10))

    assert len(ask(traced(answer))[1]) == 1000
    assert recording.spans()[0].response >= 1000


@pytest.fixture
def engine():
    made = sqlalchemy.create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    yield made
    made.dispose()


def test_statements_commits_and_threads_are_below_the_request(record, engine):
    recording = record()

    def select(value):
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("SELECT :x FROM sqlite_master"), {"x": value}).all()

    def work():
        select(1)
        with ThreadPoolExecutor() as pool, futurist.ThreadPoolExecutor() as other:
            pool.submit(select, 2).result()
            other.submit(select, 2).result()
        thread = threading.Thread(target=select, args=(3,))
        thread.start()
        thread.join()

    ask(application(work), **ASKED)
    spans = recording.spans()
    request = "GET /v2.1/servers/{id}"
    assert tree(spans) == {(request, None), ("SELECT sqlite_master", request), ("COMMIT", request)}
    assert len({each.trace for each in spans}) == 1
    selects = [each for each in spans if each.name.startswith("SELECT")]
    assert len(selects) == 4
    assert len({each.attributes["atoll.db.digest"] for each in selects}) == 3, "equal statements have equal digests"


def test_spans_have_the_path_of_the_thread_that_recorded_them(record):
    """A thread may wait for threads that it started, but not the reverse: predictions need the difference."""
    recording = record()

    def mark(name):
        with spans.span(sampling.sampled(), name, SpanKind.CLIENT):
            pass

    def inner():
        mark("inner")
        thread = threading.Thread(target=mark, args=("innermost",))
        thread.start()
        thread.join()

    def work():
        mark("first")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(inner).result()
            pool.submit(mark, "second").result()

    ask(application(work), **ASKED)
    ask(application(lambda: mark("next")), **ASKED)
    paths = {each.name: each.attributes.get("atoll.task", "") for each in recording.spans()}
    assert (paths["first"], paths["next"]) == ("", "")
    assert "" not in (paths["inner"], paths["second"])
    assert paths["inner"] != paths["second"], "both in the same thread of the pool, but tasks of their own"
    assert tasks.is_below(paths["innermost"], paths["inner"])
    assert paths["innermost"] != paths["inner"]


def test_a_request_that_arrives_in_a_thread_of_another_one_is_a_task_of_its_own(record):
    recording = record()

    def mark():
        with spans.span(sampling.sampled(), "within", SpanKind.CLIENT):
            pass

    def work():
        thread = threading.Thread(target=lambda: ask(application(mark), **OTHER))
        thread.start()
        thread.join()

    ask(application(work), **ASKED)
    (found,) = [each for each in recording.spans() if each.name == "within"]
    assert "atoll.task" not in found.attributes


def test_events_of_a_request_are_marked_as_work_that_it_does_not_wait_for(record):
    recording, sent = record(service="neutron"), []
    ask(application(lambda: traced_calls._send(sent.extend, ["event"], [])), **ASKED)
    (found,) = [each for each in recording.spans() if each.name == "send events to nova"]
    assert (sent, found.attributes["atoll.unawaited"], found.attributes["atoll.events"]) == (["event"], True, 1)


def test_threads_that_start_threads_without_end_have_paths_of_limited_length(record):
    recording = record()

    def mark(depth):
        with spans.span(sampling.sampled(), f"level {depth}", SpanKind.CLIENT):
            pass
        if depth < tasks.MAX_DEPTH + 5:
            thread = threading.Thread(target=mark, args=(depth + 1,))
            thread.start()
            thread.join()

    ask(application(lambda: mark(0)), **ASKED)
    paths = {each.name: each.attributes.get("atoll.task", "") for each in recording.spans()}
    assert paths[f"level {tasks.MAX_DEPTH + 5}"].count(".") == tasks.MAX_DEPTH - 1
    assert all(len(path) < 300 for path in paths.values())


def test_a_statement_tells_nothing_about_its_values(record, engine, monkeypatch):
    """Short values, such as flags and numbers, could be found from a digest without a key by trying them all."""
    found = []
    for service in ("nova", "neutron"):
        recording = record(service=service)

        def work():
            with engine.connect() as connection:
                connection.execute(sqlalchemy.text("SELECT 'geheim', 4711 FROM sqlite_master WHERE name = :x"), {"x": "top-secret"})

        ask(application(work), **ASKED)
        found.append(next(each for each in recording.spans() if each.name.startswith("SELECT") and each.service == service))
    for span in found:
        assert span.attributes["db.query.text"] == "SELECT ?, ? FROM sqlite_master WHERE name = ?"
        assert not [value for value in map(str, span.attributes.values()) if "secret" in value or "geheim" in value or "4711" in value]
    assert len({span.attributes["atoll.db.digest"] for span in found}) == 2, "the key is of one process"


@given(st.text(st.sampled_from("'?ab1 \\\"`:$%@.,=()"), max_size=60), st.text("xyz'", max_size=8))
def test_no_text_in_quotes_is_kept(before, value):
    """A statement that is well-formed up to a literal is recorded without it, wherever it is cut off."""
    quoted = "'" + value.replace("'", "''") + "SECRET'"
    if before.count("'") % 2 == 0:
        assert "SECRET" not in names.sql(f"SELECT {before}{quoted}").text
    assert "SECRET" not in names.sql("S" * (names.MAX_STATEMENT - 9) + quoted).text


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        (
            "SELECT a1.b FROM t2 AS a1 WHERE a1.c = 12 AND d IN (1, 2.5, 1e-3)",
            "SELECT a1.b FROM t2 AS a1 WHERE a1.c = ? AND d IN (?, ?, ?)",
        ),
        ("SELECT %(param_1)s, :x_2, $3, ?4, @5", "SELECT %(param_1)s, :x_2, $3, ?4, @5"),
        ("SELECT x'0F', 'it''s', '' FROM `2t`", "SELECT x?, ?, ? FROM `2t`"),
        (r"SELECT 'a\'b', 'c'", "SELECT ?"),
        ("SELECT 'open", "SELECT ?"),
    ],
    ids=["numbers", "placeholders", "quotes", "backslash", "cut"],
)
def test_values_in_a_statement_are_left_out(statement, text):
    assert names.sql(statement).text == text


def test_a_statement_that_fails_is_recorded(record, engine):
    recording = record(1.0)

    def work():
        with engine.connect() as connection, pytest.raises(sqlalchemy.exc.OperationalError):
            connection.execute(sqlalchemy.text("SELECT * FROM missing"))

    ask(application(work))
    assert "no such table" in recording.spans()[1].error


def test_a_worker_does_not_keep_the_trace_of_the_request_that_started_it(record, engine):
    recording = record()

    def select():
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT 1"))

    with ThreadPoolExecutor(1) as pool:
        ask(application(lambda: pool.submit(select).result()), **ASKED)
        pool.submit(select).result()
        ask(application(lambda: pool.submit(select).result()))
    assert len(recording.spans()) == 2


def test_a_thread_that_stays_is_recorded_only_for_a_while(record, monkeypatch):
    recording = record()
    go_on = threading.Event()

    def stay():
        assert go_on.wait(20)
        if current := sampling.sampled():
            with spans.span(current, "late", SpanKind.INTERNAL):
                pass

    threads = []

    def work():
        threads.append(threading.Thread(target=stay))
        threads[-1].start()

    ask(application(work), **ASKED)
    monkeypatch.setattr(sampling, "LINGER_NS", 0)
    go_on.set()
    threads[0].join()
    assert len(recording.spans()) == 1


class Answer(requests.adapters.BaseAdapter):
    """Answers without a network, and keeps the headers of what it was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = []

    def send(self, request, *_arguments, **_options):
        self.sent.append(dict(request.headers))
        response = requests.Response()
        response.status_code, response._content, response.request, response.url = 503, b"x" * 100, request, request.url
        return response

    def close(self):
        pass


def test_requests_that_are_sent_carry_the_trace_on(record):
    recording, answer = record(), Answer()
    session = requests.Session()
    session.mount("http://", answer)

    def work():
        session.post("http://127.0.0.1:9696/v2.0/ports/3?token=secret&a=b", data=b"y" * 50)

    ask(application(work), **ASKED, HTTP_TRACESTATE="other=1")
    ask(application(work))
    work()
    sent, client = recording.spans()[0], recording.spans()[1]
    assert (client.name, client.kind, client.parent) == ("POST /v2.0/ports/{id}", "client", sent.span)
    assert client.attributes["url.query"] == "token=…&a=b"
    assert client.error == "status 503"
    assert client.request > 50
    assert client.response > 100
    carried, unsampled, bare = answer.sent
    assert carried["traceparent"] == headers.traceparent(TRACE, int(client.span, 16), sampled=True)
    assert carried["tracestate"] == "atoll=nova@paris,other=1"
    assert unsampled["traceparent"].endswith("-00")
    assert "traceparent" not in bare
    assert len(recording.spans()) == 2


class Endpoint:
    """Answers messages, and sends further ones."""

    def __init__(self, client) -> None:
        self.client, self.contexts, self.done = client, [], threading.Semaphore(0)

    def outer(self, ctxt, deep):
        self.contexts.append(ctxt)
        self.client.call(ctxt, "inner", deep=deep)
        with futurist.ThreadPoolExecutor() as pool:
            pool.submit(self.client.cast, ctxt, "told").result()
        return "x" * 1000

    def inner(self, ctxt, deep):
        if deep:
            raise ValueError("deep")

    def told(self, ctxt):
        self.done.release()


@pytest.fixture
def bus():
    with tempfile.TemporaryDirectory(prefix="bus", dir="/tmp") as directory:
        options.register(cfg.CONF)
        for name in ("socket_dir", "outbox_dir"):
            cfg.CONF.set_override(name, str(Path(directory) / name), options.GROUP)
        transport = oslo_messaging.get_rpc_transport(cfg.CONF, "zenoh:///v")
        client = oslo_messaging.get_rpc_client(transport, Target(topic="compute"))
        endpoint = Endpoint(client)
        server = oslo_messaging.get_rpc_server(transport, Target(topic="compute", server="paris"), [endpoint])
        server.start()
        yield client, endpoint
        server.stop()
        server.wait()
        transport.cleanup()
        for name in ("socket_dir", "outbox_dir"):
            cfg.CONF.clear_override(name, options.GROUP)


def test_messages_carry_the_trace_on_and_both_ends_know_their_sizes(record, bus):
    recording, (client, endpoint) = record(), bus
    ask(application(lambda: client.call({"user": "me"}, "outer", deep=False)), **ASKED)
    assert endpoint.done.acquire(timeout=20)
    while len(spans := recording.spans()) < 7:
        time.sleep(0.01)
    request = "GET /v2.1/servers/{id}"
    assert [(each.kind, each.name) for each in spans[:3]] == [("server", request), ("client", "compute outer"), ("server", "compute outer")]
    assert tree(spans) == {
        (request, None),
        ("compute outer", request),
        ("compute outer", "compute outer"),
        ("compute inner", "compute outer"),
        ("compute inner", "compute inner"),
        ("compute told", "compute outer"),
        ("compute told", "compute told"),
    }
    assert {each.trace for each in spans} == {f"{TRACE:032x}"}
    called, served = spans[1:3]
    assert called.request == served.request > 100
    assert called.response == served.response > 1000
    assert endpoint.contexts == [{"user": "me"}], "upstream sees nothing of it"


def test_messages_without_a_trace_begin_none_and_are_left_alone(record, bus):
    recording, (client, endpoint) = record(1.0), bus
    client.call({"user": "me"}, "outer", deep=False)
    assert endpoint.done.acquire(timeout=20)
    assert recording.spans() == []


def test_a_method_that_fails_is_recorded_at_both_ends(record, bus):
    recording, (client, _endpoint) = record(), bus

    def work():
        with pytest.raises(ValueError, match="deep"):
            client.call({}, "inner", deep=True)

    ask(application(work), **ASKED)
    assert [each.error for each in recording.spans()] == [None, "ValueError: deep", "ValueError: deep"]


def test_a_thousand_concurrent_requests_are_a_thousand_trees(record, bus):
    recording, (client, _endpoint) = record(1.0), bus
    serve = application(lambda: client.call({}, "inner", deep=False))
    with ThreadPoolExecutor(16) as pool:
        for each in [pool.submit(ask, serve) for _ in range(1000)]:
            each.result()
    spans = recording.spans()
    assert len(spans) == 3000
    by_trace = {}
    for each in spans:
        by_trace.setdefault(each.trace, []).append(each)
    assert len(by_trace) == 1000
    for own in by_trace.values():
        ids = {each.span for each in own}
        assert [each.kind for each in own if each.parent not in ids] == ["server"]


class Stuck:
    """A sink that takes nothing until it may."""

    def __init__(self, fails: bool = False) -> None:
        self.go_on, self.written, self.fails = threading.Event(), 0, fails

    def write(self, spans):
        assert self.go_on.wait(20)
        if self.fails:
            raise OSError("the disk is full")
        self.written += len(spans)

    def close(self):
        pass


@pytest.mark.parametrize("fails", [False, True])
def test_a_sink_that_is_stuck_or_fails_stops_nobody(record, fails, caplog):
    made = record(1.0).recorder
    sink = Stuck(fails)
    background = Background(sink, "stuck")
    made.provider.add_span_processor(background)
    serve = application()
    begun = time.monotonic()
    for _ in range(QUEUE // 1000):
        ask(serve)
    assert time.monotonic() - begun < 10
    sink.go_on.set()
    assert background.force_flush()
    assert (sink.written, background.dropped) == ((0, QUEUE // 1000) if fails else (QUEUE // 1000, 0))
    assert caplog.text.count("the disk is full") == fails, "said once"


def test_a_full_queue_drops_spans_and_counts_them(record, monkeypatch):
    monkeypatch.setattr("atoll.trace.background.QUEUE", 10)
    made, sink = record().recorder, Stuck()
    background = Background(sink, "full")
    span = made.tracer.start_span("x")
    span.end()
    for _ in range(100):
        background.on_end(span)
    assert background.dropped >= 80
    sink.go_on.set()
    assert background.force_flush()
    assert sink.written + background.dropped == 100
    background.shutdown()

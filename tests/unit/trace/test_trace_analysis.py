"""Analysis of traces, on trees that are made here."""

import contextlib
import json
import time
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.trace import analysis, formats, names, page, tasks, tree, whatif
from atoll.trace.store import Span

MS = 1_000_000


class Maker:
    """Makes the spans of one trace; times are in milliseconds."""

    def __init__(self) -> None:
        self.spans, self._ids = [], count(1)

    def span(self, parent, start, ms, kind="internal", name="work", service="nova", site="paris", **attributes):
        error = attributes.pop("error", None)
        end = int((start + ms) * MS)
        made = Span("a" * 32, f"{next(self._ids):016x}", parent, kind, name, service, site, int(start * MS), end, error, 10, 20, attributes)
        self.spans.append(made)
        return made.span

    def call(self, parent, start, ms, name, *, inside=0.0, service="nova", site="paris", to="neutron", at="paris", path=""):
        """Make both ends of an HTTP request whose ways take `inside` milliseconds each; return the callee's."""
        said = {"http.request.method": name.split()[0], "url.path": path or name.split()[1]}
        client = self.span(parent, start, ms, "client", name, service, site, **said)
        return self.span(client, start + inside, ms - 2 * inside, "server", name, to, at, **said)

    @property
    def trace(self) -> tree.Trace:
        return tree.build(self.spans)


@pytest.fixture
def make() -> Maker:
    return Maker()


def test_spans_of_several_stores_are_one_tree_in_the_order_of_time(make):
    root = make.span("", 0, 100, "server")
    make.span(root, 50, 10)
    make.span(root, 10, 10)
    made = tree.build([*reversed(make.spans), *make.spans])
    assert [node.span.start // MS for node in made.walk()] == [0, 10, 50]
    assert (len(made.roots), made.orphans) == (1, 0)


def test_a_span_whose_parent_is_lost_is_an_orphan(make):
    make.span("", 0, 100, "server")
    make.span("f" * 16, 5, 1)
    assert (len(make.trace.roots), make.trace.orphans) == (2, 1)


def test_a_parent_outside_the_cloud_is_not_an_orphan_and_joins_its_requests(make):
    make.span("c" * 16, 0, 10, "server", **{"atoll.from_outside": True})
    assert (make.trace.roots[0].span.kind, make.trace.orphans) == ("server", 0)
    make.span("c" * 16, 20, 10, "server", **{"atoll.from_outside": True})
    (root,) = make.trace.roots
    assert (root.span.name, len(root.children), make.trace.orphans) == ("client", 2, 0)
    assert (make.trace.start, make.trace.end) == (0, 30 * MS)


def test_a_circle_in_a_damaged_store_ends(make):
    make.span(f"{2:016x}", 0, 1)
    make.span(f"{1:016x}", 0, 1)
    assert len(list(make.trace.walk())) == 2


@pytest.mark.parametrize("wrong", [[], ["a", "b"]])
def test_it_is_one_trace(make, wrong):
    for each in wrong:
        make.spans.append(Span(each * 32, "1" * 16, "", "internal", "x", "s", "p", 0, 1, None, None, None, {})._replace(span=each * 16))
    with pytest.raises(ValueError, match="one trace"):
        tree.build(make.spans)


def test_the_clock_of_another_site_is_put_right(make):
    root = make.span("", 0, 100, "client", site="paris")
    other = make.span(root, 5000, 60, "server", site="lyon")
    make.span(other, 5010, 10, site="lyon")
    make.span(root, 10, 5)
    starts = {node.span.span: node.start // MS for node in make.trace.walk()}
    assert [starts[each.span] for each in make.spans] == [0, 20, 30, 10]


def test_the_parts_of_nova_are_told_apart(make):
    api = make.span("", 0, 9, "server")
    conductor = make.span(api, 1, 8, "server", **{"rpc.method": "x", "messaging.destination.name": "conductor"})
    make.span(make.span(conductor, 2, 6, "producer"), 3, 4, "server", **{"rpc.method": "x", "messaging.destination.name": "compute"})
    assert [node.place for node in make.trace.walk()] == [
        "paris/nova-api",
        "paris/nova-conductor",
        "paris/nova-conductor",
        "paris/nova-compute",
    ]


def test_duplicates_and_what_could_be_merged_are_marked(make):
    root = make.span("", 0, 1000, "server")
    for start, path in ((0, "/v2.0/ports/1"), (100, "/v2.0/ports/1"), (200, "/v2.0/ports/2"), (300, "/v2.0/ports/1")):
        make.call(root, start, 50, "GET /v2.0/ports/{id}", path=path)
    for start in (400, 500):
        make.call(root, start, 10, "POST /v2.0/ports")
    for start in (600, 700, 800):
        make.span(
            root, start, 5, "client", "SELECT tags", **{"db.system.name": "sqlite", "db.operation.name": "SELECT", "atoll.db.digest": "d"}
        )
    gets, selects, posts = analysis.operations(make.trace)
    assert (gets.caller, gets.callee, gets.count, gets.ms) == ("paris/nova-api", "paris/neutron", 4, 200)
    assert (gets.duplicates, gets.duplicate_ms, gets.mergeable, gets.mergeable_ms) == (2, 100, 1, 50)
    assert (selects.name, selects.duplicates, selects.mergeable) == ("POST /v2.0/ports", 0, 0)
    assert (posts.name, posts.duplicates) == ("SELECT tags", 2)
    assert (gets.request_bytes, gets.response_bytes) == (40, 80)
    told = analysis.totals(make.trace)
    assert (told["duplicates"], told["mergeable"], told["calls"], told["bytes"]) == (4, 1, {"http": 6, "sql": 3}, 180)


def test_links_count_messages_and_bytes_and_know_the_far_ones(make):
    root = make.span("", 0, 100, "server")
    make.call(root, 0, 10, "GET /a")
    make.call(root, 20, 10, "GET /a", to="gateway", at="lyon")
    far, near = sorted(analysis.links(make.trace), key=lambda each: not each.far)
    assert (far.callee, far.messages, far.request_bytes, far.far, near.far) == ("lyon/gateway", 1, 10, True, False)


def test_the_critical_path_is_what_the_operation_waited_for(make):
    root = make.span("", 0, 100, "server")
    make.span(root, 10, 30, name="overtaken")
    make.span(root, 10, 60, name="slow")
    late = make.span(root, 80, 10, "producer", name="cast")
    make.span(late, 85, 50, "consumer", name="consumed")
    path = analysis.critical_path(make.trace.roots[0])
    assert [(each.node.span.name, each.start // MS, each.end // MS) for each in path] == [
        ("work", 0, 10),
        ("slow", 10, 70),
        ("work", 70, 80),
        ("cast", 80, 85),
        ("consumed", 85, 135),
    ]


TREES = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 100), st.integers(0, 100), st.sampled_from(("client", "server", "producer"))), max_size=40
)


@given(TREES)
def test_the_critical_path_covers_all_the_time_whatever_the_tree(drawn):
    make = Maker()
    ids = [make.span("", 0, 50, "server")]
    for above, start, ms, kind in drawn:
        ids.append(make.span(ids[above % len(ids)], start, ms, kind, site="paris"))
    trace = make.trace
    path = analysis.critical_path(trace.roots[0])
    assert sum(each.end - each.start for each in path) == trace.end - trace.start
    assert [each.end for each in path[:-1]] == [each.start for each in path[1:]]
    whatif.predict(trace, 10.0, {"nova": "far"})
    assert formats.from_otlp(json.loads(json.dumps(formats.to_otlp(make.spans)))) == make.spans
    json.dumps(formats.to_chrome(trace))


def test_sequential_calls_add_up_and_parallel_ones_do_not(make):
    root = make.span("", 0, 100, "server")
    for start in (0, 10, 20):
        make.call(root, start, 5, "GET /a")
    for _ in range(4):
        make.call(root, 50, 20, "GET /b")
    told = whatif.predict(make.trace, 100.0, {"neutron": "far"})
    assert (told.round_trips_answered, told.crossings) == (4, 7)
    assert (told.answered_ms, told.predicted_answered_ms) == (100, 500)


def test_a_call_within_a_call_pays_for_both(make):
    root = make.span("", 0, 100, "server")
    inner = make.call(root, 0, 90, "GET /a", at="lyon", to="gateway")
    make.call(inner, 10, 50, "GET /b", service="gateway", site="lyon", at="nice")
    told = whatif.predict(make.trace, 50.0)
    assert (told.round_trips_answered, told.predicted_answered_ms) == (2, 200)
    recorded = whatif.predict(make.trace, 50.0, recorded_rtt_ms=20.0)
    assert recorded.predicted_answered_ms == 100 - 40 + 100


def test_a_cast_does_not_hold_up_its_sender_for_what_it_causes(make):
    root = make.span("", 0, 20, "server")
    cast = make.span(root, 10, 5, "producer")
    served = make.span(cast, 12, 80, "consumer", site="lyon", service="nova-compute")
    make.call(served, 20, 10, "GET /a", service="nova-compute", site="lyon", at="paris")
    told = whatif.predict(make.trace, 100.0)
    assert told.predicted_answered_ms == 120, "it waits for the acknowledgement"
    assert told.predicted_complete_ms == 92 + 50 + 100, "half a round trip to get there, and one for the call"


def test_a_caller_has_waited_for_an_answer_whose_sender_ended_later(make):
    """Without a delay between sites, a receiver may note its end after the caller has noted that of the call."""
    root = make.span("", 0, 100, "server")
    client = make.span(root, 10, 20, "client", name="GET /a", **{"http.request.method": "GET"})
    make.span(client, 11, 22, "server", name="GET /a", service="neutron", site="lyon", **{"http.request.method": "GET"})
    told = whatif.predict(make.trace, 100.0)
    assert (told.round_trips_answered, told.predicted_answered_ms) == (1, 200)


def forked(make):
    """Return a function that makes a call to another site, by the task with a path."""
    root = make.span("", 0, 200, "server")

    def call(start, ms, task, name="GET /a"):
        client = make.span(root, start, ms, "client", name=name, **{"atoll.task": task} if task else {})
        make.span(client, start, ms, "server", name="GET /a", service="neutron", site="lyon")

    return call


def test_a_thread_does_not_wait_for_the_thread_that_started_it(make):
    """Nova allocates the network of a server in a thread, while the first thread writes the server's disks."""
    call = forked(make)
    call(0, 10, "1")  # before the second thread
    call(20, 100, "1.2")
    call(25, 10, "1")
    call(40, 10, "1")
    call(52, 10, "1")
    call(130, 20, "1.2", "GET /last")
    told = whatif.predict(make.trace, 100.0, until="GET /last")
    assert told.round_trips_complete == 3, "after the call before the second thread, and that of this thread"
    assert told.round_trips_answered == 4, "the first thread's own calls"


def test_a_thread_waits_for_the_threads_that_it_started(make):
    call = forked(make)
    call(0, 10, "")
    call(12, 20, "1")
    call(40, 20, "1")
    call(80, 20, "")
    assert whatif.predict(make.trace, 100.0).round_trips_answered == 4


def test_threads_wait_for_the_calls_before_both(make):
    call = forked(make)
    call(0, 10, "1")
    call(20, 10, "2")
    call(40, 10, "2")
    call(42, 10, "1")
    assert whatif.predict(make.trace, 100.0).round_trips_answered == 3, "the second thread may have begun after the first call"


def test_no_request_waits_for_queued_work(make):
    """Neutron may send an event to Nova while the request that caused it is still answered."""
    root = make.span("", 0, 100, "server")
    queued = make.span(root, 10, 40, "internal", name="send events to nova", **{"atoll.unawaited": True})
    make.call(queued, 20, 10, "POST /events", at="lyon")
    make.call(root, 60, 10, "GET /a", at="lyon")
    told = whatif.predict(make.trace, 100.0)
    assert (told.round_trips_answered, told.predicted_answered_ms) == (1, 200)
    assert told.crossings == 2


def test_without_recorded_threads_each_call_waits_for_all_that_ended_before(make):
    call = forked(make)
    for start in (0, 20, 40):
        call(start, 10, "")
    assert whatif.predict(make.trace, 100.0).round_trips_answered == 3


@given(own=st.lists(st.integers(1, 4), max_size=4), other=st.lists(st.integers(1, 4), max_size=4))
def test_a_branch_is_where_two_tasks_part(own, other):
    path, another = (".".join(map(str, each)) for each in (own, other))
    assert tasks.is_below(path, another) == (own[: len(other)] == other)
    if not tasks.is_below(another, path):
        branch = tasks.branch(path, another)
        assert tasks.is_below(path, branch)
        assert not tasks.is_below(another, branch)
        assert tasks.is_below(another, branch.rpartition(".")[0]), "the least of these"


@pytest.mark.parametrize("task", [".", "a..b", "", [1], 7])
def test_strange_tasks_in_a_file_are_no_error(make, task):
    root = make.span("", 0, 200, "server")
    for start, name in ((0, "x"), (20, task), (40, "1.2")):
        make.span(root, start, 10, "client", name="GET /a", **{"atoll.task": name})
    assert whatif.predict(make.trace, 100.0).round_trips_answered == 0


def test_an_operation_is_complete_with_the_last_of_chosen_spans(make):
    """No client waits for later work, such as an event that comes after two seconds."""
    root = make.span("", 0, 20, "server")
    make.call(root, 0, 10, "GET /first", at="lyon")
    work = make.span(root, 20, 100, "consumer", name="build")
    make.call(work, 30, 10, "POST Instance.save", at="lyon", path="/a")
    make.call(work, 50, 10, "POST Instance.save", at="lyon", path="/b")
    make.span(work, 2000, 10, "internal", name="event")
    whole, chosen = (whatif.predict(make.trace, 100.0, until=until) for until in ("", "Instance.save"))
    assert (whole.complete_ms, chosen.complete_ms) == (2010, 60)
    assert (chosen.predicted_complete_ms, chosen.round_trips_complete) == (360, 3), "one before the work, and two within it"
    assert chosen.answered_ms == whole.answered_ms == 20
    with pytest.raises(ValueError, match="no span has a name that ends in 'x'"):
        whatif.predict(make.trace, 100.0, until="x")


def test_formats_for_other_viewers(make):
    root = make.span("", 0, 10, "server", error="KeyError: x", number=1, flag=True, part=0.5, many=["a", "b"])
    make.span(root, 1, 5, "client")
    make.span(root, 2, 6, "client")
    assert formats.from_otlp(formats.to_otlp(make.spans)) == make.spans
    events = [each for each in formats.to_chrome(make.trace)["traceEvents"] if each["ph"] == "X"]
    assert [(each["ts"], each["dur"], each["tid"]) for each in events] == [(0, 10_000, 1), (1000, 5000, 2), (2000, 6000, 3)]


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(("resourceSpans", "scopeSpans", "spans", "traceId")), inner),
    )
)
def test_data_that_is_not_otlp_is_refused(data):
    with contextlib.suppress(ValueError):
        assert formats.from_otlp(data) == []


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/v2.1/servers/8ebf3bdd-5b32-4d2c-9ec5-7f4ba7a5b4a2/action", "/v2.1/servers/{id}/action"),
        ("/v2/schemas/image", "/v2/schemas/image"),
        ("/v2.1/flavors/1", "/v2.1/flavors/{id}"),
        ("/v3/users/0123456789abcdef0123456789abcdef", "/v3/users/{id}"),
        ("", "/"),
    ],
)
def test_names_have_no_ids(path, named):
    assert names.http("GET", path) == f"GET {named}"


def test_names_of_statements_and_messages():
    assert names.sql("SELECT a FROM (SELECT b FROM ports) AS c")[:2] == ("SELECT", "ports")
    assert names.sql('  insert INTO "tags" (a)')[:2] == ("INSERT", "tags")
    assert names.sql("UPDATE ports SET a=1")[:2] == ("UPDATE", "ports")
    assert names.sql("PRAGMA x")[:2] == ("PRAGMA", "")
    assert names.sql("")[:2] == ("SQL", "")
    assert names.rpc("conductor", "object_action", {"objinst": {"nova_object.name": "Instance"}, "objmethod": "save"}).endswith(
        "Instance.save"
    )
    assert names.rpc("compute", "terminate", None) == "compute terminate"


def test_secrets_in_paths_and_queries_are_left_out():
    assert names.safe_path("/v2.1/os-console-auth-tokens/secret") == "/v2.1/os-console-auth-tokens/{token}"
    assert names.safe_query("a=1&token=secret&X-Auth-Token=b") == "a=1&token=…&X-Auth-Token=…"
    # As Nova writes the URL of a page with a console.
    assert names.safe_query("path=console%2Fparis%2Fvnc%3Ftoken%3Dsecret&a=1") == "path=console%2Fparis%2Fvnc%3Ftoken%3D…&a=1"


@pytest.mark.parametrize("text", ["?", "a?", "?key", "%3f", "token", "key%25", "=", "&"])
def test_a_long_query_takes_no_time(text):
    """A gateway describes requests of strangers in its event loop."""
    query = text * (64_000 // len(text))
    began = time.process_time()
    names.safe_query(query)
    assert time.process_time() - began < 0.5


def test_the_page_is_whole_and_no_text_ends_its_script(make):
    root = make.span("", 0, 10, "server", name="</script><script>alert(1)</script>")
    make.call(root, 1, 5, "GET /a", path="/a\u2028</script>")
    text = page.render(make.trace)
    assert text.count("</script>") == 2
    assert "&lt;/script&gt;" in text
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in text
    assert "@DATA@" not in text

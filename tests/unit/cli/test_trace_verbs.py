"""`atoll trace` over stores that are made here."""

import json
import os
import re

import pytest

from atoll.cli import trace as verbs
from atoll.site import trace_run
from atoll.site.state import State
from atoll.trace import page, store, tree
from atoll.trace.store import Span

MS = 1_000_000
BOOT, LIST, HOSTILE_ID = "4b" * 16, "4c" * 16, "5e" * 16


def span(trace, number, parent, start, ms, kind="server", name="GET /v2.0/ports", service="nova", site="paris", **attributes):
    own, above = f"{number:016x}", f"{parent:016x}" if parent else ""
    return Span(trace, own, above, kind, name, service, site, start * MS, (start + ms) * MS, None, 100, 200, attributes)


@pytest.fixture
def recorded(cloud, directory):
    """A boot at paris and lyon, and a later list at paris."""
    http = {"http.request.method": "GET", "url.path": "/v2.0/ports"}
    spans = {
        "paris": [
            span(BOOT, 1, 0, 1000, 100, name="POST /v2.1/servers"),
            span(BOOT, 2, 1, 1010, 30, "client", **http),
            span(BOOT, 4, 1, 1050, 30, "client", **http),
            span(LIST, 5, 0, 9000, 10, name="GET /v2.1/servers"),
            span(LIST, 6, 5, 9001, 5, "client", **http),
        ],
        "lyon": [span(BOOT, 3, 2, 1015, 20, service="neutron", site="lyon", **http)],
    }
    for site, own in spans.items():
        writer = store.Writer(State(directory).site(site) / store.FILE, 1_000_000)
        writer.write(own)
        writer.close()
    return spans


def test_list(atoll, recorded):
    rows = json.loads(atoll("trace", "list", "--json").out)
    assert [(row["trace"], row["name"], row["sites"], row["spans"]) for row in rows] == [
        (LIST, "GET /v2.1/servers", ["paris"], 2),
        (BOOT, "POST /v2.1/servers", ["lyon", "paris"], 4),
    ]
    lines = atoll("trace", "list").out.splitlines()
    assert lines[1].split()[:4] == [LIST, "1970-01-01", "00:00:09", "GET"]
    assert len(json.loads(atoll("trace", "list", "--limit", "1", "--json").out)) == 1


def test_show(atoll, recorded, tmp_path):
    ran = atoll("trace", "show", "4b4")
    assert ran.code == 0
    assert "answered after 100 ms, complete after 100 ms; 4 spans: 2 http" in ran.out
    assert "1 calls are duplicates" in ran.out or "0 calls are duplicates" in ran.out
    told = json.loads(atoll("trace", "show", "latest", "--json").out)
    assert (told["trace"], told["roots"], told["orphans"], len(told["tree"])) == (LIST, 1, 0, 2)
    page = tmp_path / "trace.html"
    assert atoll("trace", "show", BOOT, "--html", str(page)).out == f"wrote {page}\n"
    assert BOOT in page.read_text()


def test_an_id_may_be_a_uuid(atoll, recorded):
    assert atoll("trace", "show", "4b4b4b4b-4b4b-4b4b-4b4b-4b4b4b4b4b4b").code == 0


def test_top(atoll, recorded):
    rows = json.loads(atoll("trace", "top", "--json").out)
    assert sum(row["count"] for row in rows) == 3
    assert "GET /v2.0/ports" in atoll("trace", "top").out


def test_diff(atoll, recorded):
    rows = json.loads(atoll("trace", "diff", LIST, BOOT, "--json").out)
    assert {(row["callee"], row["more_calls"]) for row in rows} == {("paris/?", 0), ("lyon/neutron", 1)}
    assert "both traces make the same calls" in atoll("trace", "diff", BOOT, BOOT).out


HOSTILE = "GET /\x1b]0;owned\x07\x9b31m\u202egnp.\u2066 [/red] [link=x] \r\n :bomb: \udcff"
"""A name that would set a terminal's title and colours, reverse what follows, begin the line again, and end a style of rich's."""


@pytest.mark.parametrize("verb", [("list",), ("show", HOSTILE_ID), ("top",), ("diff", BOOT, HOSTILE_ID)], ids=lambda verb: verb[0])
def test_no_text_of_a_span_commands_the_terminal(atoll, recorded, directory, verb):
    writer = store.Writer(State(directory).site("paris") / store.FILE, 1_000_000)
    names = {"name": HOSTILE.encode(errors="replace").decode(), "service": "no\x1b[2Jva", "site": "pa\x9bris"}
    writer.write(
        [span(HOSTILE_ID, 7, 0, 9000, 10, **names), span(HOSTILE_ID, 8, 7, 9001, 5, "client", **names, **{"server.address": "\x1b[1mx"})]
    )
    writer.close()
    ran = atoll("trace", *verb)
    assert (ran.code, ran.err) == (0, "")
    assert "\\x1b]0;owned\\x07\\x9b31m\\u202egnp" in ran.out, "shown as escapes"
    assert all(line.isprintable() for line in ran.out.split("\n"))
    assert "[/red] [link=x]" in ran.out
    assert ":bomb:" in ran.out


def test_the_page_of_a_hostile_trace_is_well_formed():
    evil = "</script><script>alert(1)</script><!-- @DATA@ @TITLE@ \u2028 \x1b ]]>"
    made = tree.build(
        [
            span(BOOT, 1, 0, 1, 5, name=evil, service=evil, site=evil),
            span(BOOT, 2, 1, 2, 1, "client", name=evil, **{evil: evil, "x": float("nan")}),
        ]
    )
    text = page.render(made)
    assert text.count("<script") == text.count("</script>") == 2, "those of the page"
    assert "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;&lt;!-- @DATA@ @TITLE@" in text.partition("</title>")[0]
    data = re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)
    told = json.loads(data[1], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert told["spans"][1]["attributes"] == {evil: evil, "x": "nan"}


@pytest.mark.parametrize("kind", ["otlp", "chrome", "html"])
def test_export(atoll, recorded, tmp_path, kind):
    file = tmp_path / "out.json"
    assert atoll("trace", "export", BOOT, "--format", kind, "--output", str(file)).code == 0
    assert atoll("trace", "export", BOOT, "--format", kind).out.strip() == file.read_text().strip()
    if kind == "otlp":
        assert json.loads(atoll("trace", "show", str(file), "--json").out)["spans"] == 4, (
            "an exported trace must be readable without its store"
        )


def test_whatif(atoll, recorded):
    told = json.loads(atoll("trace", "whatif", BOOT, "--rtt", "100ms", "--json").out)
    assert (told["answered_ms"], told["predicted_answered_ms"], told["crossings"]) == (100, 200, 1)
    assert "complete  100 ms -> 200 ms  (1 sequential round trips" in atoll("trace", "whatif", BOOT, "--rtt", "100ms").out


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("show", "ffff"), 1, "no trace has an id that begins with ffff"),
        (("show", "4"), 1, "several traces have ids that begin with 4"),
        (("show", "xyz"), 1, "'xyz' is no id of a trace"),
        (("show", "none.json"), 1, "none.json: no such file or directory"),
        (("whatif", BOOT, "--rtt", "fast"), 2, "--rtt"),
        (("whatif", BOOT, "--rtt", "1ms", "--place", "nova"), 2, "expected SERVICE=SITE"),
        (("whatif", BOOT, "--rtt", "1ms", "--place", "novo=far"), 1, "the trace has no service novo"),
        (("whatif", BOOT, "--rtt", "1ms", "--until", "nothing"), 1, "--until: no span has a name that ends in 'nothing'"),
        (("run", "--"), 2, "missing argument"),
        (("run", "--", "true"), 1, "not running"),
    ],
)
def test_mistakes_are_one_line(atoll, recorded, arguments, code, text):
    ran = atoll("trace", *arguments)
    assert ran.code == code
    assert text in ran.err.splitlines()[0]


@pytest.mark.parametrize("device", [None, "/dev/zero"], ids=["pipe", "device"])
def test_a_pipe_and_a_device_are_not_traces(atoll, recorded, tmp_path, device):
    file = tmp_path / "x.json"
    os.mkfifo(file) if device is None else file.symlink_to(device)
    ran = atoll("trace", "show", str(file))
    assert ran.code == 1
    assert ran.err.startswith(f"error: {file}: not a regular file\n")


@pytest.mark.parametrize("content", ["{}", "[1, 2", "null", '{"resourceSpans": []}', '{"resourceSpans": [{"scopeSpans": 5}]}'])
def test_a_file_that_is_not_a_trace(atoll, recorded, tmp_path, content):
    file = tmp_path / "x.json"
    file.write_text(content)
    ran = atoll("trace", "show", str(file))
    assert ran.code == 1
    assert ran.err.startswith(f"error: {file}: ")
    assert len(ran.err.splitlines()) == 2


def test_a_damaged_store_is_one_line(atoll, recorded, directory):
    (State(directory).site("lyon") / store.FILE).write_bytes(b"x" * 9000)
    ran = atoll("trace", "list")
    assert ran.code == 1
    assert "spans.db can't be read" in ran.err.splitlines()[0]


def test_without_a_trace(atoll, cloud):
    assert atoll("trace", "list", "--json").out == "[]\n"
    assert "no trace was recorded yet" in atoll("trace", "show", "latest").err


def test_ids_are_completed(recorded, directory, monkeypatch):
    monkeypatch.setenv("ATOLL_STATE", str(directory))
    import click

    context = click.Context(verbs.show)
    context.params["state"] = directory
    assert [each.value for each in verbs.complete_trace(context, None, "4b")] == [BOOT]
    context.params["state"] = directory / "nothing"
    assert [each.value for each in verbs.complete_trace(context, None, "")] == ["latest"]


def test_the_name_of_a_command_has_no_secrets():
    words = ["/usr/bin/openstack", "user", "set", "--password", "secret", "me"]
    assert trace_run._name(words) == "openstack user set"
    assert trace_run._name(["curl", "http://secret@host"]) == "curl"

"""`atoll site`: the operations that it calls, and its output."""

import json

import pytest

from atoll.site import single_sites
from atoll.site.up import Outcome


@pytest.fixture
def asked(monkeypatch, cloud):
    """Return the list of operations on sites."""
    calls = []

    def ends(verb, ran):
        def end(_state, names, _observe):
            calls.append((verb, names))
            return ran

        monkeypatch.setattr(single_sites, verb, end)

    ends("stop", ("lyon",))
    ends("kill", ("lyon",))
    ends("remove", ("lyon",))
    monkeypatch.setattr(
        single_sites, "start", lambda _s, _c, names, _o: calls.append(("start", names)) or Outcome(cloud, ("lyon/nova", "paris/bus"))
    )
    monkeypatch.setattr(single_sites, "add", lambda _s, _c, new, _o: calls.append(("add", new)) or Outcome(cloud, ("lyon/nova",)))
    return calls


@pytest.mark.parametrize(("verb", "word"), [("stop", "stopped"), ("kill", "killed")])
def test_stop_and_kill_tell_who_ran(atoll, asked, verb, word):
    assert atoll("site", verb, "lyon", "paris").out == f"{word}: lyon\nnot running: paris\n"
    assert json.loads(atoll("site", verb, "--json", "lyon", "paris").out) == {word: ["lyon"], "not_running": ["paris"]}
    assert asked == [(verb, ("lyon", "paris"))] * 2


def test_start_tells_who_was_up_and_what_else_was_started(atoll, asked):
    out = atoll("site", "start", "lyon", "paris").out
    assert out == "started in 0.0 s: lyon, paris\n"
    assert atoll("site", "start", "lyon").out.splitlines()[1] == "also started: paris/bus"
    found = json.loads(atoll("site", "start", "lyon", "rome", "--json").out)
    assert (found["started"], found["already_up"]) == (["lyon"], ["rome"])


def test_add_reads_links_and_places(atoll, asked):
    ran = atoll("site", "add", "lyon", "--link", "paris:delay=3ms,loss=0.1%", "--link", "nice", "--location", "45.8,4.8", "--json")
    ((_verb, new),) = asked
    assert (new.links, new.location) == ({"paris": {"delay": "3ms", "loss": "0.1%"}, "nice": {}}, (45.8, 4.8))
    assert (new.name, new.kind, new.control) == ("lyon", "full", None)
    assert json.loads(ran.out)["url"] == "http://127.0.0.1:15011/identity/v3"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--link", "paris:dely=3ms"], "dely=3ms: expected one of delay=…"),
        (["--link", "paris:delay=-3ms"], "delay=-3ms: expected a duration"),
        (["--link", "paris:"], ": expected one of delay=…"),
        (["--location", "here"], "'here' is not latitude and longitude"),
        (["--kind", "half"], "'half' is not one of 'full', 'compute'"),
    ],
)
def test_add_that_makes_no_sense(atoll, asked, words, text):
    ran = atoll("site", "add", "rome", *words)
    assert (ran.code, asked) == (2, [])
    assert text in ran.err.splitlines()[0]


def test_remove_asks_before_it_deletes(atoll, asked):
    ran = atoll("site", "remove", "lyon")
    assert (ran.code, asked) == (2, [])
    assert "nobody can confirm this: expected --yes" in ran.err
    assert atoll("site", "remove", "--yes", "lyon", "rome").out == "removed: lyon\nnot there: rome\n"
    assert json.loads(atoll("site", "remove", "-y", "lyon", "--json").out) == {"removed": ["lyon"], "not_there": []}


@pytest.mark.parametrize("verb", ["start", "stop", "kill", "remove"])
def test_a_site_must_be_named(atoll, cloud, verb):
    assert atoll("site", verb).code == 2


def test_unknown_site_is_one_line(atoll, cloud):
    ran = atoll("site", "kill", "rome")
    assert (ran.code, ran.err.splitlines()[0]) == (1, "error: no site is called rome: expected one of paris, lyon")

"""Long histories of lists and registers at three sites over three servers of Redis with Sentinels, while clients and servers die.

`ATOLL_MINUTES` sets the duration; a run that counts takes an hour. `report.json` in pytest's directory has the counts.
"""

import json
import os

import pytest
import redis_server
from history_client import LISTS, REGISTERS
from long_history import LongHistory, chains, evaluate

from atoll.stores.url import ISOLATION


def begin(name, appends=None, writes=None):
    return {"begin": name, "appends": appends or {}, "writes": writes or {}}


def end(name, *reads, outcome="committed"):
    return {"end": name, "outcome": outcome, "reads": reads}


def problems(lines, lists=None, registers=None, level="galera"):
    return evaluate(lines, {LISTS.name: lists or {}, REGISTERS.name: registers or {}}, level)[1]


def test_the_order_of_a_register_comes_from_what_its_writers_read():
    written = {"r": [["x", "y"], ["", "w", "x"]]}
    assert chains(written, {"r": "y"}) == ({"r": ("w", "x", "y")}, [])
    assert chains(written, {"r": "z"})[1] == ["r: its value z has no writer"]
    assert chains({}, {"r": ""}) == ({"r": ()}, [])


def test_a_good_history_has_no_problem():
    lines = [begin("1", writes={"r": ["", "x"]}), end("1", ("r", "")), begin("2", writes={"r": ["x", "y"]}), end("2", ("r", "x"))]
    assert problems(lines, registers={"r": "y"}, level="serializable") == []
    assert problems([begin("1", appends={"l": ["a"]}), end("1")], lists={"l": "a "}) == []
    assert problems([begin("1", appends={"l": ["a"]})], lists={"l": ""}) == [], "a killed client's outcome is unknown"


def test_lost_updates_and_lost_commits_are_found():
    both = [begin("1", writes={"r": ["", "x"]}), end("1", ("r", "")), begin("2", writes={"r": ["", "y"]}), end("2", ("r", ""))]
    assert any("1: committed, and lost in r" in each for each in problems(both, registers={"r": "y"}))
    assert any("lost in l" in each for each in problems([begin("1", appends={"l": ["a"]}), end("1")], lists={"l": ""}))


def test_reads_of_values_that_never_were_are_found():
    lines = [begin("1", writes={"r": ["", "x"]}), end("1", ("r", ""), outcome="failed"), begin("2"), end("2", ("r", "x"))]
    assert problems(lines, registers={"r": ""}) == ["2: read x of r, which it never had"]


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.skipif(redis_server.PROGRAM is None, reason="redis-server is missing: scripts/packages redis-server")
def test_clients_servers_and_masters_die(tmp_path):
    minutes = float(os.environ.get("ATOLL_MINUTES", "2"))
    history = LongHistory(tmp_path, ISOLATION, minutes * 60, seed=1)
    try:
        history.prepare()
        history.run()
        reports = [history.report(level) for level in ISOLATION]
    finally:
        for client in history.clients:
            client.stop()
        history.servers.stop()
    (tmp_path / "report.json").write_text(json.dumps({"faults": dict(history.counts), "levels": reports}))
    for report in reports:
        assert report["problems"] == [], report
        assert report["committed"] > 20 * minutes, report

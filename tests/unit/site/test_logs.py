from itertools import islice
from pathlib import Path

import pytest

from atoll.errors import AtollError
from atoll.site.logs import Log, follow, logs_of
from atoll.site.up import up


def test_tail_gives_the_last_lines_and_added_goes_on_there(tmp_path):
    log = Log("a/nova", tmp_path / "log")
    assert (log.tail(2), log.added()) == ([], [])
    log.path.write_text("one\ntwo\nthree\n")
    assert log.tail(2) == ["two", "three"]
    assert log.added() == []
    with log.path.open("a") as file:
        file.write("four\nfi")
    assert log.added() == ["four"]
    with log.path.open("a") as file:
        file.write("ve\n")
    assert log.added() == ["five"]


@pytest.mark.parametrize("count", [0, 1, 999, 20_000, 30_000])
def test_tail_of_a_long_log(tmp_path, count):
    log = Log("a/nova", tmp_path / "log")
    lines = [f"line {number} äöü" for number in range(20_000)]
    log.path.write_text("\n".join(lines) + "\n")
    assert log.tail(count) == (lines[-count:] if count else [])


def test_log_that_was_cut_or_replaced_is_read_from_its_start(tmp_path):
    log = Log("a/nova", tmp_path / "log")
    log.path.write_text("a long first line\n")
    log.tail(1)
    log.path.write_text("short\n")
    assert log.added() == ["short"]
    (tmp_path / "other").write_text("replaced by a longer one\n")
    (tmp_path / "other").replace(log.path)
    assert log.added() == ["replaced by a longer one"]


def test_bytes_that_are_not_text(tmp_path):
    log = Log("a/nova", tmp_path / "log")
    log.path.write_bytes(b"\xff\r\n")
    assert log.tail(5) == ["\ufffd"]


def test_follow_waits_between_looks(tmp_path):
    log = Log("a/nova", tmp_path / "log")
    lines = follow([log], sleep=lambda _seconds: log.path.write_text("here\n"))
    assert list(islice(lines, 1)) == [(log, "here")]


@pytest.mark.usefixtures("runtime")
def test_names_of_logs(state, cache, tmp_path: Path):
    file = tmp_path / "c.yaml"
    file.write_text("sites:\n- name: paris\n- {name: lyon, services: {nova: false}}\n")
    up(state, cache, file)
    assert len(logs_of(state, None)) == 11
    assert [log.name for log in logs_of(state, "lyon")] == [
        "lyon/keystone",
        "lyon/placement",
        "lyon/glance",
        "lyon/neutron",
        "lyon/gateway",
    ]
    assert [log.path for log in logs_of(state, "paris/nova")] == [state.site("paris") / "log/nova.log"]
    assert [log.path for log in logs_of(state, "supervisor")] == [state.supervisor_log]
    (state.logs / "template-nova.log").touch()
    assert [log.name for log in logs_of(state, "template/nova")] == ["template/nova"]
    with pytest.raises(AtollError, match="lyon runs no nova: expected one of lyon/keystone, "):
        logs_of(state, "lyon/nova")
    with pytest.raises(AtollError, match="no site is called rome: expected one of paris, lyon"):
        logs_of(state, "rome")

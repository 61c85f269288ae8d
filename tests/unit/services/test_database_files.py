import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from atoll.services import common, database_files


def fill(directory: Path) -> None:
    (directory / "x.db").write_text("whole")


def test_template_is_made_whole(tmp_path):
    database_files.make_template(tmp_path / "key" / "nova", fill)
    assert [path.name for path in (tmp_path / "key").iterdir()] == ["nova"]
    assert (tmp_path / "key/nova/x.db").read_text() == "whole"
    assert stat.S_IMODE((tmp_path / "key/nova").stat().st_mode) == 0o700


def test_template_that_exists_is_left_alone(tmp_path):
    database_files.make_template(tmp_path / "nova", fill)
    database_files.make_template(tmp_path / "nova", lambda _directory: pytest.fail("made twice"))


def test_failed_build_is_not_a_template(tmp_path):
    def fail(directory: Path) -> None:
        fill(directory)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        database_files.make_template(tmp_path / "nova", fail)
    assert not (tmp_path / "nova").exists()
    database_files.make_template(tmp_path / "nova", fill)
    assert (tmp_path / "nova/x.db").read_text() == "whole"


KILLED = """
    import os, pathlib, sys, time
    from atoll.services import database_files
    def make(directory):
        (directory / "x.db").write_text("half")
        print("half", flush=True)
        sys.stdin.read()
    database_files.make_template(pathlib.Path(sys.argv[1]), make)
"""


def test_killed_build_is_not_a_template_and_does_not_matter(tmp_path):
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(KILLED), tmp_path / "nova"], stdin=pipe, stdout=pipe, text=True) as build:
        assert build.stdout is not None
        assert build.stdout.readline() == "half\n"
        assert not (tmp_path / "nova").exists()
        build.send_signal(signal.SIGKILL)
    (leftover,) = tmp_path.iterdir()
    # The worst case: the next build has the same pid.
    leftover.rename(tmp_path / f"nova.{os.getpid()}.new")
    database_files.make_template(tmp_path / "nova", fill)
    assert (tmp_path / "nova/x.db").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["nova"]


def template(settings, **databases: str) -> None:
    (settings.templates / "nova").mkdir(parents=True)
    for name, text in databases.items():
        (settings.templates / "nova" / f"{name}.db").write_text(text)
    common.directories(settings)


def test_databases_are_copied_once(settings):
    template(settings, api="1", cell="2")
    assert database_files.copy_templates(settings, "nova", ["api", "cell"])
    assert (settings.data / "api.db").read_text() == "1"
    assert stat.S_IMODE((settings.data / "cell.db").stat().st_mode) == 0o600
    (settings.data / "api.db").write_text("used")
    assert not database_files.copy_templates(settings, "nova", ["api", "cell"])
    assert (settings.data / "api.db").read_text() == "used"


def test_missing_database_is_copied_beside_the_others(settings):
    template(settings, api="1", cell="2")
    database_files.copy_templates(settings, "nova", ["api"])
    assert database_files.copy_templates(settings, "nova", ["api", "cell"])
    assert sorted(path.name for path in settings.data.glob("*.*")) == ["api.db", "cell.db"]


def test_half_copied_database_is_none(settings, monkeypatch):
    template(settings, api="1")

    def full_disk(_source: Path, target: Path) -> None:
        target.write_text("")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full_disk)
        with pytest.raises(OSError, match="No space left"):
            database_files.copy_templates(settings, "nova", ["api"])
    assert not (settings.data / "api.db").exists()
    assert database_files.copy_templates(settings, "nova", ["api"])
    assert (settings.data / "api.db").read_text() == "1"


def test_checkpointed_database_is_whole_alone(tmp_path):
    with closing(sqlite3.connect(tmp_path / "x.db")) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (1)")
        connection.commit()
        database_files.checkpoint(tmp_path / "x.db")
        shutil.copy(tmp_path / "x.db", tmp_path / "y.db")
    with closing(sqlite3.connect(tmp_path / "y.db")) as copy:
        assert copy.execute("SELECT x FROM t").fetchall() == [(1,)]


def test_two_clouds_may_make_the_same_template_at_the_same_time(tmp_path):
    """The later cloud uses the template of the earlier one."""

    def fill_while_another_does(directory):
        (directory / "nova.db").write_text("mine")
        (tmp_path / "nova").mkdir()
        (tmp_path / "nova" / "nova.db").write_text("the other's")

    database_files.make_template(tmp_path / "nova", fill_while_another_does)
    assert (tmp_path / "nova" / "nova.db").read_text() == "the other's"
    assert [path.name for path in tmp_path.iterdir()] == ["nova"]


def test_a_mark_is_made_when_what_it_stands_for_is_on_the_disk(settings, monkeypatch):
    done = []
    monkeypatch.setattr(database_files, "flush", lambda path: done.append((path.name, (settings.data / "made").exists())))
    settings.data.mkdir(parents=True)
    database_files.mark(settings.data / "made", settings, "keystone")
    assert done == [("keystone.db-wal", False), ("data", True)]


def test_a_server_keeps_what_it_has_committed_by_itself(settings, monkeypatch):
    done = []
    monkeypatch.setattr(database_files, "flush", lambda path: done.append(path.name))
    settings.data.mkdir(parents=True)
    database_files.mark(settings.data / "made", replace(settings, engine="redis"), "nova_api")
    assert done == ["data"]


@pytest.fixture
def order(monkeypatch) -> list[str]:
    """The paths that are flushed and renamed, in this order."""
    done: list[str] = []

    def noted(what: str, function):
        def call(path: Path, *arguments: Path) -> object:
            done.append(f"{what} {arguments[0].name if arguments else path.name}")
            return function(path, *arguments)

        return call

    monkeypatch.setattr(database_files, "flush", noted("flush", database_files.flush))
    monkeypatch.setattr(database_files, "flush_tree", noted("flush all of", database_files.flush_tree))
    monkeypatch.setattr(Path, "replace", noted("name", Path.replace))
    monkeypatch.setattr(Path, "rename", noted("name", Path.rename))
    return done


def test_databases_are_on_the_disk_before_they_get_their_names(settings, order):
    template(settings, api="1")
    database_files.copy_templates(settings, "nova", ["api"])
    assert order == ["flush api.new", "name api.db", "flush data"]
    order.clear()
    database_files.copy_templates(settings, "nova", ["api"])
    assert order == []


def test_a_template_is_on_the_disk_before_it_gets_its_name(tmp_path, order):
    database_files.make_template(tmp_path / "nova", lambda directory: (directory / "x.db").write_text("whole"))
    assert [each.replace(f".{os.getpid()}", "") for each in order] == ["flush all of nova.new", "name nova", f"flush {tmp_path.name}"]

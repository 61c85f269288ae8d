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

from atoll.services import common


def fill(directory: Path) -> None:
    (directory / "x.db").write_text("whole")


def test_template_is_made_whole(tmp_path):
    common.make_template(tmp_path / "key" / "nova", fill)
    assert [path.name for path in (tmp_path / "key").iterdir()] == ["nova"]
    assert (tmp_path / "key/nova/x.db").read_text() == "whole"
    assert stat.S_IMODE((tmp_path / "key/nova").stat().st_mode) == 0o700


def test_template_that_exists_is_left_alone(tmp_path):
    common.make_template(tmp_path / "nova", fill)
    common.make_template(tmp_path / "nova", lambda _directory: pytest.fail("made twice"))


def test_failed_build_is_no_template(tmp_path):
    def fail(directory: Path) -> None:
        fill(directory)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        common.make_template(tmp_path / "nova", fail)
    assert not (tmp_path / "nova").exists()
    common.make_template(tmp_path / "nova", fill)
    assert (tmp_path / "nova/x.db").read_text() == "whole"


KILLED = """
    import os, pathlib, sys, time
    from atoll.services import common
    def make(directory):
        (directory / "x.db").write_text("half")
        print("half", flush=True)
        sys.stdin.read()
    common.make_template(pathlib.Path(sys.argv[1]), make)
"""


def test_killed_build_is_no_template_and_does_not_matter(tmp_path):
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(KILLED), tmp_path / "nova"], stdin=pipe, stdout=pipe, text=True) as build:
        assert build.stdout is not None
        assert build.stdout.readline() == "half\n"
        assert not (tmp_path / "nova").exists()
        build.send_signal(signal.SIGKILL)
    (leftover,) = tmp_path.iterdir()
    # The worst case: the next build has the same pid.
    leftover.rename(tmp_path / f"nova.{os.getpid()}.new")
    common.make_template(tmp_path / "nova", fill)
    assert (tmp_path / "nova/x.db").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["nova"]


def template(settings, **databases: str) -> None:
    (settings.templates / "nova").mkdir(parents=True)
    for name, text in databases.items():
        (settings.templates / "nova" / f"{name}.db").write_text(text)
    common.directories(settings)


def test_databases_are_copied_once(settings):
    template(settings, api="1", cell="2")
    assert common.databases(settings, "nova", ["api", "cell"])
    assert (settings.data / "api.db").read_text() == "1"
    assert stat.S_IMODE((settings.data / "cell.db").stat().st_mode) == 0o600
    (settings.data / "api.db").write_text("used")
    assert not common.databases(settings, "nova", ["api", "cell"])
    assert (settings.data / "api.db").read_text() == "used"


def test_missing_database_is_copied_beside_the_others(settings):
    template(settings, api="1", cell="2")
    common.databases(settings, "nova", ["api"])
    assert common.databases(settings, "nova", ["api", "cell"])
    assert sorted(path.name for path in settings.data.glob("*.*")) == ["api.db", "cell.db"]


def test_half_copied_database_is_none(settings, monkeypatch):
    template(settings, api="1")

    def full_disk(_source: Path, target: Path) -> None:
        target.write_text("")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full_disk)
        with pytest.raises(OSError, match="No space left"):
            common.databases(settings, "nova", ["api"])
    assert not (settings.data / "api.db").exists()
    assert common.databases(settings, "nova", ["api"])
    assert (settings.data / "api.db").read_text() == "1"


def test_directories_are_private(settings):
    common.directories(settings, "images", "deep/inside")
    common.directories(settings, "images")
    for name in ("locks", "images", "deep/inside"):
        assert stat.S_IMODE((settings.data / name).stat().st_mode) == 0o700


def test_checkpointed_database_is_whole_alone(tmp_path):
    with closing(sqlite3.connect(tmp_path / "x.db")) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (1)")
        connection.commit()
        common.checkpoint(tmp_path / "x.db")
        shutil.copy(tmp_path / "x.db", tmp_path / "y.db")
    with closing(sqlite3.connect(tmp_path / "y.db")) as copy:
        assert copy.execute("SELECT x FROM t").fetchall() == [(1,)]


@pytest.mark.parametrize(
    "path", ["etc/nova/api-paste.ini", "etc/neutron/api-paste.ini", "etc/glance/glance-api-paste.ini", "etc/glance/metadefs"]
)
def test_upstream_files_are_where_they_are_looked_for(path):
    assert common.upstream_file(path).exists()


def test_two_clouds_may_make_the_same_template_at_once(tmp_path):
    """The later cloud uses the template of the earlier one."""

    def fill_while_another_does(directory):
        (directory / "nova.db").write_text("mine")
        (tmp_path / "nova").mkdir()
        (tmp_path / "nova" / "nova.db").write_text("the other's")

    common.make_template(tmp_path / "nova", fill_while_another_does)
    assert (tmp_path / "nova" / "nova.db").read_text() == "the other's"
    assert [path.name for path in tmp_path.iterdir()] == ["nova"]


def test_a_mark_is_made_when_what_it_stands_for_is_on_the_disk(settings, monkeypatch):
    done = []
    monkeypatch.setattr(common, "flush", lambda path: done.append((path.name, (settings.data / "made").exists())))
    settings.data.mkdir(parents=True)
    common.mark(settings.data / "made", settings, "keystone")
    assert done == [("keystone.db-wal", False), ("data", True)]


def test_a_server_keeps_what_it_has_committed_by_itself(settings, monkeypatch):
    done = []
    monkeypatch.setattr(common, "flush", lambda path: done.append(path.name))
    settings.data.mkdir(parents=True)
    common.mark(settings.data / "made", replace(settings, engine="redis"), "nova_api")
    assert done == ["data"]


def test_configuration_with_a_password_is_private_and_removed():
    with common.written("secret") as path:
        assert path.read_text() == "secret"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


@pytest.fixture
def order(monkeypatch) -> list[str]:
    """The paths that are flushed and renamed, in this order."""
    done: list[str] = []

    def noted(what: str, function):
        def call(path: Path, *arguments: Path) -> object:
            done.append(f"{what} {arguments[0].name if arguments else path.name}")
            return function(path, *arguments)

        return call

    monkeypatch.setattr(common, "flush", noted("flush", common.flush))
    monkeypatch.setattr(common, "flush_tree", noted("flush all of", common.flush_tree))
    monkeypatch.setattr(Path, "replace", noted("name", Path.replace))
    monkeypatch.setattr(Path, "rename", noted("name", Path.rename))
    return done


def test_databases_are_on_the_disk_before_they_get_their_names(settings, order):
    template(settings, api="1")
    common.databases(settings, "nova", ["api"])
    assert order == ["flush api.new", "name api.db", "flush data"]
    order.clear()
    common.databases(settings, "nova", ["api"])
    assert order == []


def test_a_template_is_on_the_disk_before_it_gets_its_name(tmp_path, order):
    common.make_template(tmp_path / "nova", lambda directory: (directory / "x.db").write_text("whole"))
    assert [each.replace(f".{os.getpid()}", "") for each in order] == ["flush all of nova.new", "name nova", f"flush {tmp_path.name}"]

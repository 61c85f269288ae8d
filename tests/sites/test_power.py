"""A power cut of a site's disk under load: after it, all acknowledged changes exist and every database is intact.

Acknowledgements before the cut count. At the moment of the cut, the file system may report a flush as done that was
under way and is lost; a machine without power could not report it.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from acknowledged import Clients
from deployment import Deployment, kill, until

from atoll.bench import workload
from atoll.bench.cell_faults.disks import Disk, lacking

CUTS = 2
CUTS_OF_LONG_TEST = 50
SEED = 17
LOAD = 12
"""Least number of acknowledgements before the cut."""

LATER_S = (0.0, 3.0)
"""Seconds from these acknowledgements to the cut; ext4 commits its journal, and thus names of files, every five seconds."""

Power = Callable[..., tuple[Disk, Deployment, Clients]]


@pytest.fixture
def powered(tmp_path_factory, base_ports) -> Iterator[Power]:
    """Yield a function that makes a site with its state on its own disk."""
    made: list[tuple[Disk, Deployment]] = []

    def make(durability: str) -> tuple[Disk, Deployment, Clients]:
        directory = tmp_path_factory.mktemp("power")
        if why := lacking(directory):
            pytest.skip(why)
        disk = Disk(directory / "disk.img", directory / "disk")
        cloud = Deployment(disk.at / "state")
        made.append((disk, cloud))
        cloud.atoll("up", cloud.file({"name": "paris", "port": next(base_ports), "durability": durability}))
        cloud.await_answers()
        return disk, cloud, Clients(cloud, workload.prepare(cloud.api()), random.Random(SEED))

    yield make
    for disk, cloud in made:
        cloud.run("destroy", "--yes")
        kill(*cloud.pids().values())
        disk.remove()


@pytest.mark.parametrize("cuts", [CUTS, pytest.param(CUTS_OF_LONG_TEST, marks=pytest.mark.long)])
@pytest.mark.timeout(3600)
def test_power_cut_loses_nothing_that_was_acknowledged(powered, cuts):
    disk, cloud, clients = powered("full")
    moments = random.Random(SEED)
    for cut in range(1, cuts + 1):
        _cut(disk, cloud, clients, moments.uniform(*LATER_S))
        assert _damaged(cloud) == [], f"cut {cut}"
        cloud.atoll("up")
        cloud.await_answers()
        assert clients.lost() == [], f"cut {cut}"


@pytest.mark.long
def test_relaxed_site_loses_what_was_acknowledged_last_but_no_database(powered):
    """The documented exception, which also proves that the test above can fail."""
    disk, cloud, clients = powered("relaxed")
    _cut(disk, cloud, clients, LATER_S[1])
    assert _damaged(cloud) == []
    cloud.atoll("up")
    cloud.await_answers()
    assert any("is not there" in line for line in clients.lost())


def _cut(disk: Disk, cloud: Deployment, clients: Clients, after_s: float) -> None:
    """Cut the power under load, and restore it; the site is stopped then."""
    running = cloud.pids()
    before = clients.acknowledged

    def work() -> None:
        until(lambda: clients.acknowledged >= before + LOAD, "clients were told of changes")
        time.sleep(after_s)  # the moment of the cut is what is tested
        clients.close()
        disk.cut()
        kill(*running.values())

    clients.run(work)
    disk.restore()


def _damaged(cloud: Deployment) -> list[str]:
    """Return the damaged databases; copies are checked, because opening a database repairs it."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        for path in sorted(cloud.root.glob("sites/*/data/**/*.db")) + sorted(cloud.root.glob("sites/*/data/**/*.sqlite")):
            copy = Path(name) / path.name
            for suffix in ("", "-wal"):
                if (part := path.with_name(path.name + suffix)).exists():
                    shutil.copyfile(part, copy.with_name(copy.name + suffix))
            with closing(sqlite3.connect(copy)) as database:
                try:
                    verdicts = [verdict for (verdict,) in database.execute("PRAGMA integrity_check")]
                except sqlite3.DatabaseError as error:
                    verdicts = [str(error)]
            if verdicts != ["ok"]:
                found.append(f"{path}: {verdicts[:3]}")
    return found

"""Checks, before the first cell of an experiment starts, that this machine and this user meet the requirements of all cells."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from atoll.bench.cell_faults import disks
from atoll.bench.cell_faults.kinds import DISK_KINDS
from atoll.bench.cells import Work
from atoll.bench.standard.servers import check_packages
from atoll.cloud import Cloud
from atoll.errors import AtollError
from atoll.site.databases import check_installed, database_of


def check(works: Iterable[Work]) -> None:
    """Refuse cells that this machine or this user can't run.

    Args:
        works: the work of all cells.

    Raises:
        AtollError: `database.unavailable`: a database server is not installed; `cloud.invalid`: the password of an existing server
            can't be read; `bench.requirement`: RabbitMQ is not installed, or this user can't make a disk that a fault needs, or
            the networks of a bus.
    """
    works = list(works)
    clouds = {json.dumps(work.cloud, sort_keys=True) for work in works if work.system == "cloud"}
    for text in sorted(clouds):
        cloud = Cloud.model_validate(json.loads(text))
        check_installed(cloud.full_sites)
        for site in cloud.full_sites:
            database_of(site)
    for who, system in (("the architecture `standard`", "cloud"), ("the transport `rabbit`", "bus")):
        if any(work.rabbitmq and work.system == system for work in works):
            check_packages(who, ["rabbitmq-server"])
    if any(work.system == "bus" for work in works) and os.geteuid() != 0:
        raise AtollError("bench.requirement", "clients in the networks of several sites need root", "run the experiment as root")
    _check_disks(works)


def _check_disks(works: Iterable[Work]) -> None:
    kinds = sorted({str(step["kind"]) for work in works for step in work.faults} & DISK_KINDS)
    if not kinds:
        return
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as directory:
        why = disks.lacking(Path(directory))
    if why:
        text = f"the faults {' and '.join(kinds)} need a file system on a loop device: {why}"
        raise AtollError("bench.requirement", text, "run the experiment as root on a machine with loop devices, or use the fault `kill`")

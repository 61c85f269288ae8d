"""Workloads of experiment files that Rally runs: one Rally in the network of the first site, or one in the network of each site.

As with any other cloud, Rally makes tenants and users, runs its scenario, and removes everything. Each Rally has a database of its own. The
database stays in the directory of the run, with the task, the log and Rally's JSON report.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll.bench.api import Api
from atoll.bench.cell_workloads import CellRecorder, Parameters, Place
from atoll.bench.failure import failed
from atoll.bench.load.generator import Timed
from atoll.rally import environment, results, tasks
from atoll.wan.isolation import within

_POLL_S = 0.05
_IMAGE_BYTES = 1_000_000
_FLAVORS = {tasks.FLAVOR: 64, tasks.LARGER_FLAVOR: 128}  # megabytes of memory
_RANGE = "172.24.4.0/24"


@dataclass(frozen=True)
class RallySetting:
    """The place of Rally's program and of its files.

    Attributes:
        python: the interpreter of Rally's environment.
        directory: the directory for the files of a cell; what an earlier attempt left there is deleted.
    """

    python: Path
    directory: Path


@dataclass(frozen=True)
class _Job:
    """A running process of Rally.

    Attributes:
        site: the site of its network.
        directory: the directory of its files.
        process: the process.
    """

    site: str
    directory: Path
    process: subprocess.Popen[bytes]

    @property
    def begun(self) -> bool:
        """True if the first iteration has started."""
        return (self.directory / "begun").exists()

    @property
    def ended(self) -> bool:
        """True if Rally has ended."""
        return self.process.poll() is not None


def run(setting: RallySetting, places: Sequence[Place], recorder: CellRecorder, parameters: Parameters, _seed: int) -> None:
    """Run a task of Rally, and record its iterations and their actions.

    Args:
        setting: the place of Rally's program and of its files.
        places: the places of the cloud's users; Rally works at the first one, or at each of them, as the parameter `at` says.
        recorder: the recorder.
        parameters: the parameters of the workload, as for `atoll.rally.tasks.task_of`; with `task`, the data of a task's file.

    Raises:
        AtollError: `bench.failed`: Rally could not run the task, or not all of its iterations.
    """
    shutil.rmtree(setting.directory, ignore_errors=True)
    setting.directory.mkdir(parents=True, mode=0o700)  # Rally's database has the cloud's password
    prepare(places[0].api)
    jobs: list[_Job] = []
    try:
        jobs += [_start(setting, place, parameters) for place in (places if parameters["at"] == "each" else places[:1])]
        while not any(job.begun for job in jobs) and not all(job.ended for job in jobs):
            time.sleep(_POLL_S)
        if any(job.begun for job in jobs):
            recorder.begin()
        zero = time.time() - recorder.now()
        for job in jobs:
            job.process.wait()
    finally:
        for job in jobs:
            job.process.kill()
            job.process.wait()
    for job in jobs:
        recorder.add([_timed(job.site, operation, zero) for operation in _operations(job)], 0.0)


def prepare(api: Api) -> None:
    """Create the public image, the flavors and the external network that Rally's scenarios find by name or by kind.

    Args:
        api: a client that is signed in as an administrator.
    """
    fields = {"name": tasks.IMAGE, "disk_format": "raw", "container_format": "bare", "visibility": "public"}
    image = api.expect("image", "POST", "/v2/images", fields)["id"]
    api.expect("image", "PUT", f"/v2/images/{image}/file", data=bytes(_IMAGE_BYTES))
    known = {flavor["name"] for flavor in api.expect("compute", "GET", "/flavors")["flavors"]}
    for name, memory_mb in _FLAVORS.items():
        if name not in known:
            api.expect("compute", "POST", "/flavors", {"flavor": {"name": name, "ram": memory_mb, "vcpus": 1, "disk": 1}})
    outside = {"name": tasks.PUBLIC_NETWORK, "router:external": True}
    network = api.expect("network", "POST", "/v2.0/networks", {"network": outside})["network"]["id"]
    subnet = {"network_id": network, "ip_version": 4, "cidr": _RANGE, "enable_dhcp": False}
    api.expect("network", "POST", "/v2.0/subnets", {"subnet": subnet})


def _start(setting: RallySetting, place: Place, parameters: Parameters) -> _Job:
    directory = setting.directory / place.site
    directory.mkdir()
    (directory / tasks.IMAGE_FILE).write_bytes(bytes(_IMAGE_BYTES))
    named = parameters.get("task") is None
    work = {
        "task": tasks.task_of(parameters) if named else parameters["task"],
        "supply": tasks.supply(directory) if named else None,
        "database": str(directory / "rally.sqlite"),
        "platform": _platform(place.api),
        "begun": str(directory / "begun"),
        "report": str(directory / "report.json"),
    }
    source, target = directory / "work.json", directory / "outcome.json"
    source.write_text(json.dumps(work), encoding="utf-8")
    words = environment.command(setting.python, "run", source, target)
    with (directory / "rally.log").open("wb") as log:

        def start() -> subprocess.Popen[bytes]:
            settings = environment.variables(directory)
            return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=settings, cwd=directory)

        return _Job(place.site, directory, start() if place.network is None else within(place.network, start))


def _platform(api: Api) -> dict[str, Any]:
    """Return the address and the account of a cloud, as Rally's platform `existing@openstack` takes them."""
    body = api.credentials()["auth"]
    user = body["identity"]["password"]["user"]
    account = {"username": user["name"], "password": user["password"], "project_name": body["scope"]["project"]["name"]}
    domains = {"user_domain_name": "Default", "project_domain_name": "Default"}
    return {"auth_url": api.endpoint("identity"), "endpoint_type": "public", "admin": {**account, **domains}}


def _operations(job: _Job) -> list[results.RallyOperation]:
    """Return the operations of an ended Rally.

    Raises:
        AtollError: `bench.failed`: Rally failed, or not all iterations ran.
    """
    (job.directory / tasks.IMAGE_FILE).unlink()
    try:
        outcome = json.loads((job.directory / "outcome.json").read_text(encoding="utf-8"))
        report = json.loads((job.directory / "report.json").read_text(encoding="utf-8")) if outcome["status"] != "validation_failed" else {}
    except (OSError, ValueError) as error:
        last = (job.directory / "rally.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise failed(f"Rally at {job.site} failed: {last[0] if last else error}") from None
    if why := outcome["error"] or results.unfinished(report):
        raise failed(f"Rally at {job.site}: {_short(why)}")
    return list(results.operations(report))


def _short(text: str) -> str:
    """Return an error of Rally in one line, without the copy of the configuration that Rally writes before the reason."""
    return " ".join((text.partition("Reason(s):")[2] or text).split())


def _timed(site: str, operation: results.RallyOperation, zero: float) -> Timed:
    started, ended = operation.started - zero, operation.ended - zero
    return Timed(operation.name, site, started, started, ended, not operation.error, operation.error)

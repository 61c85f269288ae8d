"""One cloud with one site, paris, for the whole session; tests that need another make one of their own."""

import shutil
from collections.abc import Callable, Iterator

import psutil
import pytest
from deployment import Deployment, await_exit
from holdings import Holdings

from atoll.bench.workspace import free_ports

Make = Callable[..., Deployment]

LONGEST_S = 900
"""Seconds after which a test is given up: each of its waits is shorter."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.timeout(LONGEST_S))


@pytest.fixture(scope="session")
def base_ports(request) -> Iterator[int]:
    """Base ports of sites; none is given twice, also not to tests that run beside these (pytest-xdist calls its workers gw0, gw1, …)."""
    worker = getattr(request.config, "workerinput", {"workerid": "gw0"})["workerid"]
    return iter(free_ports(12, first=20000 + 4000 * int(worker.removeprefix("gw"))))


@pytest.fixture(scope="session")
def make(tmp_path_factory) -> Iterator[Make]:
    """Makes clouds, each in a state directory of its own, and destroys them in the end."""
    made: list[Deployment] = []

    def make_(**environment: str) -> Deployment:
        made.append(Deployment(tmp_path_factory.mktemp("cloud") / "state", environment))
        return made[-1]

    yield make_
    for cloud in made:
        if cloud.root.exists():
            processes = [psutil.Process(pid) for pid in cloud.pids().values()]
            cloud.atoll("destroy", "--yes")
            await_exit(processes)
            assert not cloud.root.exists()
        shutil.rmtree(cloud.root.parent)


@pytest.fixture(scope="session")
def cloud(make, base_ports) -> Deployment:
    made: Deployment = make()
    made.atoll("up", made.file({"name": "paris", "port": next(base_ports)}))
    return made


@pytest.fixture(scope="session")
def kept(cloud) -> Holdings:
    return Holdings(cloud)


@pytest.fixture
def paris(cloud, kept) -> Deployment:
    """The cloud, up and with what it holds, whatever an earlier test did to it."""
    if not all(status.state in ("ready", "stopped") for status in cloud.processes().values()) or not cloud.processes():
        cloud.atoll("up")
        cloud.await_answers()
    return cloud


@pytest.fixture(scope="session")
def keystone_only() -> dict[str, bool]:
    """The services of the smallest site: it starts in a third of the time."""
    return {"placement": False, "glance": False, "neutron": False, "nova": False}

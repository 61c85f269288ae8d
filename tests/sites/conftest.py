"""One cloud with one site, paris, for the whole session; tests that need another make one of their own."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from deployment import Deployment, await_exit
from holdings import Holdings
from walk import Shell

from atoll.bench.workspace import free_ports
from atoll.site.state import default_cache

Make = Callable[..., Deployment]

ROOT = Path(__file__).parents[2]

LONGEST_S = 900
"""Time limit of a test in seconds; each of its waits is shorter."""

LONGEST_FILES = ("test_faults.py", "test_crashes.py")
"""Files that take minutes. They begin first, or one worker would run them alone in the end."""


@pytest.hookimpl(trylast=True)  # after pytest-randomly
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.timeout(LONGEST_S))
    items.sort(key=lambda item: LONGEST_FILES.index(item.path.name) if item.path.name in LONGEST_FILES else len(LONGEST_FILES))


@pytest.fixture(scope="session")
def base_ports(request) -> Iterator[int]:
    """Yield base ports of sites, each only once, also among the workers of pytest-xdist (gw0, gw1, …); benchmarks take lower ones."""
    worker = getattr(request.config, "workerinput", {"workerid": "gw0"})["workerid"]
    return iter(free_ports(12, first=25000 + 2000 * int(worker.removeprefix("gw"))))


@pytest.fixture(scope="session")
def make(tmp_path_factory) -> Iterator[Make]:
    """Yield a function that makes clouds, each in its own state directory; they are destroyed in the end."""
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
    """Return the cloud, running and with its resources, whatever an earlier test did to it."""
    if not all(status.state in ("ready", "stopped") for status in cloud.processes().values()) or not cloud.processes():
        cloud.atoll("up")
        cloud.await_answers()
    return cloud


@pytest.fixture(scope="session")
def keystone_only() -> dict[str, bool]:
    """Return the services of the smallest site, which starts in a third of the time."""
    return {"placement": False, "glance": False, "neutron": False, "nova": False}


@pytest.fixture
def shell() -> Iterator[Shell]:
    """Run a shell in a directory like the checkout, with an empty home, which contains the state directories."""
    home = Path(tempfile.mkdtemp(prefix="walk-", dir="/tmp"))  # paths of sockets are short
    checkout = home / "atoll"
    checkout.mkdir()
    for name in (".venv", "examples", "scripts"):
        (checkout / name).symlink_to(ROOT / name)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OS_", "ATOLL_", "XDG_"))}
    made = Shell(checkout, kept | {"HOME": str(home), "XDG_CACHE_HOME": str(default_cache().parent)})
    yield made
    made.close()
    for state in {path.parent for path in home.rglob("control.sock")}:
        Deployment(state).run("destroy", "--yes")
    shutil.rmtree(home)

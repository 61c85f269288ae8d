"""One cloud of two sites with real guests for the whole session: paris and nice, 10 ms apart."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from deployment import Deployment, await_exit
from landscape import Landscape

from atoll.guest.image import build
from atoll.site.machine import obstacle
from atoll.site.state import default_cache

LONGEST_S = 900


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    why = obstacle()
    for item in items:
        item.add_marker(pytest.mark.timeout(LONGEST_S))
        if why is not None:
            item.add_marker(pytest.mark.skip(reason=f"no guests here: {why.message}"))


@pytest.fixture(scope="session")
def image():
    """Return the path of the project's own guest image."""
    return build(default_cache(), None, lambda _text: None).path


@pytest.fixture(scope="session")
def cloud(tmp_path_factory) -> Iterator[Deployment]:
    made = Deployment(tmp_path_factory.mktemp("guests") / "state")
    sites = [{"name": name, "compute": "libvirt"} for name in ("paris", "nice")]
    made.atoll("up", made.file(*sites, topology={"preset": "mesh", "defaults": {"delay": "5ms"}}))
    yield made
    processes = [psutil.Process(pid) for pid in made.pids().values()]
    made.atoll("destroy", "--yes")
    await_exit(processes)
    assert not [process for process in psutil.process_iter(["cmdline"]) if _is_guest_of(process, made)]
    shutil.rmtree(made.root.parent)


def _is_guest_of(process: psutil.Process, cloud: Deployment) -> bool:
    command = process.info["cmdline"] or []
    return bool(command) and Path(command[0]).name.startswith("qemu") and str(cloud.root) in " ".join(command)


@pytest.fixture(scope="session")
def paris(cloud, image) -> Landscape:
    return Landscape(cloud, "paris", image)


@pytest.fixture(scope="session")
def nice(cloud, paris, image) -> Landscape:
    return Landscape(cloud, "nice", image)

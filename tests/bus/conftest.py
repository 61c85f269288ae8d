"""Real processes on a bus, forked in a few milliseconds from one that has imported oslo.messaging and opened nothing."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from stage import Process, Stage, actors


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="session")
def parent() -> Iterator[Path]:
    # The path must be short enough for Unix sockets, as pytest's may not be.
    with tempfile.TemporaryDirectory(prefix="bus", dir="/tmp") as directory, actors(Path(directory)) as path:
        yield path


@pytest.fixture
def stage(parent) -> Iterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="bus", dir="/tmp") as directory:
        made = Stage(Path(directory), parent)
        yield made
        made.close()


@pytest.fixture
def client(stage) -> Process:
    return stage.process()

"""Fixtures of the bus."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import native_threads
import pytest
from oslo_config import cfg

from atoll.bus import options

native_threads.load()


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory whose path is short enough for Unix sockets, as pytest's may not be."""
    with tempfile.TemporaryDirectory(prefix="bus", dir="/tmp") as directory:
        yield Path(directory)


@pytest.fixture
def conf(short_dir):
    """The configuration of the process, as a service has it, with directories of the test's own."""
    options.register(cfg.CONF)
    for name, value in {"socket_dir": str(short_dir / "s"), "outbox_dir": str(short_dir / "o"), "question_interval": 0.1}.items():
        cfg.CONF.set_override(name, value, options.GROUP)
    yield cfg.CONF
    for option in options.OPTIONS:
        cfg.CONF.clear_override(option.name, options.GROUP)

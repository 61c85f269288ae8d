"""oslo.messaging is imported the way the services do it: with native threads, and without eventlet."""

import sys
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    sys.modules.setdefault("eventlet", None)  # type: ignore[arg-type]
    import oslo_service.backend

    oslo_service.backend.init_backend(oslo_service.backend.BackendType.THREADING)
    import oslo_messaging  # noqa: F401

    if sys.modules["eventlet"] is None:
        del sys.modules["eventlet"]

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from oslo_config import cfg

from atoll.bus import options


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory with a path short enough for Unix sockets, which pytest's may not be."""
    with tempfile.TemporaryDirectory(prefix="bus", dir="/tmp") as directory:
        yield Path(directory)


@pytest.fixture
def conf(short_dir):
    """The process's configuration, as a service has it, with directories of the test's own."""
    options.register(cfg.CONF)
    for name, value in {"socket_dir": str(short_dir / "s"), "outbox_dir": str(short_dir / "o"), "question_interval": 0.1}.items():
        cfg.CONF.set_override(name, value, options.GROUP)
    yield cfg.CONF
    for option in options.OPTIONS:
        cfg.CONF.clear_override(option.name, options.GROUP)

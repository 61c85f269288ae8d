"""Fixtures of the runtime's tests: each test has a supervisor of its own."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from handling import await_exit

from atoll.errors import AtollError
from atoll.namespaces import CLONE_NEWNET, CLONE_NEWUSER, Namespace, unshare
from atoll.runtime.client import SupervisorClient, connect, ensure_supervisor
from atoll.runtime.spec import Process

HERE = Path(__file__).parent


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield a state directory, and shut down its supervisor, if one runs, after the test."""
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
    state = tmp_path / "state"
    yield state
    control = connect(state)
    if control is not None:
        pid = control.ping()["pid"]
        with suppress(AtollError):
            control.shutdown()
        await_exit(pid)


@pytest.fixture
def control(directory: Path) -> SupervisorClient:
    return ensure_supervisor(directory)


MakeProcess = Callable[..., Process]


@pytest.fixture
def process(tmp_path: Path) -> MakeProcess:
    """Return a function that makes a process with an entry in programs.py and a `file` argument in the test's directory."""

    def make(entry: str, name: str | None = None, **fields: object) -> Process:
        name = name or f"paris/{entry}"
        fields.setdefault("fork_server", "server")
        fields.setdefault("arguments", {"file": str(tmp_path / "file")})
        fields.setdefault("log", str(tmp_path / "state" / "log" / f"{name}.log"))
        return Process(name=name, entry=f"programs:{entry}", **fields)

    return make


@pytest.fixture
def network() -> Iterator[Namespace]:
    """Yield a network namespace with a working loopback, which a child process holds."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() != 0:
                unshare(CLONE_NEWUSER)
            unshare(CLONE_NEWNET)
            os.write(writing, b"made")
            signal.pause()
        finally:
            os._exit(1)
    os.close(writing)
    made = os.read(reading, 4)
    os.close(reading)
    if made:
        yield Namespace(f"/proc/{child}/ns/net", None if os.geteuid() == 0 else f"/proc/{child}/ns/user")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if not made:
        pytest.skip("this user may make no network namespaces")

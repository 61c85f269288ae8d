import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from atoll.errors import AtollError
from atoll.runtime.client import Event, ProcessState, ProcessStatus
from atoll.runtime.spec import Plan
from atoll.site import departure, down, moves, preflight, processes, single_sites, status, up
from atoll.site.state import State


@dataclass
class FakeRuntime:
    """A double of the supervisor's client: every process becomes ready at once, unless the test says otherwise."""

    root: Path
    alive: bool = False
    plans: list[Plan] = field(default_factory=list)
    signatures: dict[str, str] = field(default_factory=dict)
    failing: dict[str, str] = field(default_factory=dict)
    killed: list[list[str]] = field(default_factory=list)
    shutdowns: int = 0

    def connect(self, _directory: Path) -> "FakeRuntime | None":
        return self if self.alive else None

    def ensure(self, _directory: Path) -> "FakeRuntime":
        self.alive = True
        return self

    def ping(self) -> dict[str, int]:
        return {"pid": 4321}

    def start(self, plan: Plan) -> Iterator[Event]:
        self.plans.append(plan)
        for process in plan.processes:
            if process.name in self.failing:
                yield Event(process.name, ProcessState.FAILED, 1.0, self.failing[process.name])
            elif process.job:
                made = process.arguments.get("mark")
                Path(made).touch() if made else Path(process.arguments["directory"]).mkdir(exist_ok="service" in process.arguments)
                yield Event(process.name, ProcessState.DONE, 1.0)
            else:
                same = self.signatures.get(process.name) == process.signature()
                self.signatures[process.name] = process.signature()
                yield Event(process.name, ProcessState.READY, 0.0, "unchanged" if same else "")
        if self.failing:
            raise AtollError("site.failed", "something failed")

    def stop(self, names: list[str] | None = None) -> Iterator[Event]:
        for name in list(self.signatures) if names is None else names:
            del self.signatures[name]
            yield Event(name, ProcessState.STOPPED, 0.1)

    def kill(self, names: list[str]) -> Iterator[Event]:
        self.killed.append(list(names))
        return self.stop(names)

    def status(self, *, memory: bool = False) -> list[ProcessStatus]:
        def row(name: str, kind: str) -> ProcessStatus:
            return ProcessStatus(name, kind, ProcessState.READY, 1, 0.0, 0, 1000 if memory else None, 5.0, None, "/log")

        return [row("supervisor", "supervisor"), row("nova", "fork_server"), *(row(name, "service") for name in self.signatures)]

    def shutdown(self) -> None:
        self.alive = False
        self.shutdowns += 1


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def taken() -> Iterator[int]:
    """Return a port in use, outside of the kernel's ephemeral range, where other programs might take its neighbours."""
    with socket.socket() as holder:
        while True:
            try:
                holder.bind(("127.0.0.1", random.randrange(20_000, 30_000)))
                break
            except OSError:
                continue
        holder.listen()
        yield holder.getsockname()[1]


@pytest.fixture
def runtime(state: State, monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    fake = FakeRuntime(state.root)
    for module in (departure, down, moves, preflight, processes, single_sites, status, up):
        monkeypatch.setattr(module, "connect", fake.connect)
    for module in (up, moves):
        monkeypatch.setattr(module, "ensure_supervisor", fake.ensure)
    for module in (up, moves, preflight):
        for name in ("code_key", "template_key"):
            monkeypatch.setattr(module, name, lambda: "key-1")
    # The free memory depends on the machine.
    monkeypatch.setattr(preflight, "check_memory", lambda _sites, *, warm: None)
    # A real cloud may use the ports of these clouds.
    monkeypatch.setattr(preflight.Listeners, "bind", lambda _self, processes: list(processes))
    return fake

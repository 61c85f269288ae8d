"""A cloud of real sites for tests: its command line, processes, APIs and logs."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
import yaml

from atoll.bench.api import Answer, Api
from atoll.bench.target import Target, await_answers
from atoll.errors import AtollError
from atoll.namespaces import Namespace
from atoll.runtime.client import ProcessStatus, connect
from atoll.services import SERVICES, Settings
from atoll.site.gateway import GATEWAY
from atoll.wan.client import Wan
from atoll.wan.isolation import within

PATIENCE_S = 240.0
"""Seconds to wait for any condition on a busy machine."""

NAMES = [*(service.name for service in SERVICES), GATEWAY.name]
_ATOLL = Path(sys.executable).with_name("atoll")
_TROUBLE = re.compile(r"\bERROR\b|\bCRITICAL\b|^Traceback|database is locked", re.MULTILINE)
_DELETED_MEANWHILE = re.compile(r"\[instance: (\S+)\] Failure prepping block device: nova\.exception\.BDMNotFound")
"""A server that was deleted while it was built. Nova's API removes the block devices of one without a host before it tries to remove the
server (`API._delete` in nova/compute/api.py). If the server has got its host meanwhile, its build ends so, and it is deleted there."""

T = TypeVar("T")


def until(look: Callable[[], T], what: str, patience_s: float = PATIENCE_S) -> T:
    """Wait until `look` returns a true value, and return it."""
    deadline = time.monotonic() + patience_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what}: not true after {patience_s:.0f} s"
        time.sleep(0.05)
    return found


def kill(*pids: int) -> None:
    """Kill all processes at once by SIGKILL, and wait until they are gone."""
    processes = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            processes.append(psutil.Process(pid))
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    await_exit(processes)


def await_exit(processes: Iterable[psutil.Process]) -> None:
    _gone, alive = psutil.wait_procs(list(processes), timeout=PATIENCE_S)
    assert not alive


@dataclass
class Deployment:
    """A cloud in its own directory.

    Attributes:
        root: the state directory.
        environment: the environment of the commands.
        before: a prefix of each command, such as a program that drops capabilities.
    """

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    before: tuple[str, ...] = ()

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start a command of `atoll`."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("OS_", "ATOLL_"))}
        clean["ATOLL_COMPUTE"] = "fake"  # these tests need no guests; tests/guests has those that do
        pipe = subprocess.PIPE
        command = [*self.before, _ATOLL, "--state", self.root, *arguments]
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, stdin=subprocess.DEVNULL, text=True, env=clean | self.environment)

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command of `atoll` and wait for its end."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=2 * PATIENCE_S)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def atoll(self, *arguments: str | Path) -> str:
        """Run a command that must succeed, and return its output."""
        done = self.run(*arguments)
        if "the userspace emulator was not compiled" in done.stderr:
            pytest.skip("no WAN can be emulated here: an ordinary user needs a C compiler at installation")
        assert done.returncode == 0, f"{arguments}: {done.stderr}\n{self.trouble()[-3000:]}"
        return done.stdout

    def refused(self, *arguments: str | Path) -> str:
        """Run a command that must fail with one line, and return that; lines about the progress may precede it."""
        done = self.run(*arguments)
        lines = [line for line in done.stderr.splitlines() if not line.startswith("hint: ") and not line.endswith(" …")]
        assert (done.returncode, done.stdout, len(lines)) == (1, "", 1), done
        assert lines[0].startswith("error: ")
        return lines[0].removeprefix("error: ")

    def file(self, *sites: dict[str, Any], topology: dict[str, Any] | None = None, **more: Any) -> Path:
        """Write the YAML of a cloud with these sites, and more fields, beside the state directory."""
        path = self.root.with_suffix(".yaml")
        data = {"sites": list(sites)} | ({"topology": topology} if topology is not None else {}) | more
        path.write_text(yaml.safe_dump(data), encoding="utf-8")
        return path

    def processes(self) -> dict[str, ProcessStatus]:
        """Return all processes by name."""
        control = connect(self.root)
        return {status.name: status for status in control.status()} if control else {}

    def pids(self) -> dict[str, int]:
        """Return the ids of the running processes by name."""
        return {name: status.pid for name, status in self.processes().items() if status.pid is not None}

    def settings(self, site: str = "paris") -> Settings:
        return Settings.load(self.root / "sites" / site)

    def api(self, site: str = "paris", observe: Callable[[str, str, int, bytes], None] | None = None) -> Api:
        """Return a client that is signed in as administrator."""
        settings = self.settings(site)
        api = Api(settings.public_url("identity", "/v3"), settings.secrets["admin"], observe=observe)
        api.sign_in()
        return api

    def wan(self) -> Wan:
        return Wan(self.root)

    def api_inside(self, site: str, user: str = "admin", password: str = "", project: str = "admin") -> Api:
        """Return a client in a site's own network, signed in at its gateway, by default as administrator."""
        settings = self.settings(site)
        url = settings.public_url("identity", "/v3")
        api = ApiInside(self.wan().namespace(site), url, password or settings.secrets["admin"], user, project=project)
        api.sign_in()
        return api

    def await_answers(self, site: str = "paris") -> float:
        """Wait until all five APIs answer correctly.

        Returns:
            The seconds that it took.
        """
        settings = self.settings(site)
        begun = time.monotonic()
        target = Target(settings.public_url("identity", "/v3"), settings.secrets["admin"], site, list)
        await_answers(target, lambda: None, PATIENCE_S)
        return time.monotonic() - begun

    def logs(self) -> dict[Path, int]:
        """Return the length of every log in bytes."""
        return {path: path.stat().st_size for path in self.root.rglob("*.log")}

    def trouble(self, since: dict[Path, int] | None = None, site: str = "") -> str:
        """Return the errors in logs with the lines after each, except those of servers that were deleted during their build.

        Args:
            since: the lengths of logs to skip.
            site: the site whose logs to read; empty for all logs, including the runtime's.
        """
        found = []
        for path in (path for path in self.logs() if not site or path.parent.parent.name == site):
            text = path.read_bytes()[(since or {}).get(path, 0) :].decode(errors="replace")
            deleted = set(_DELETED_MEANWHILE.findall(text))
            for match in _TROUBLE.finditer(text):
                line = text[match.start() : text.find("\n", match.start())]
                if not any(f"[instance: {server}]" in line for server in deleted):
                    found.append(f"{path.name}: {text[match.start() : match.start() + 1500]}")
        return "\n".join(found[:5])


class ApiInside(Api):
    """A client that makes each request from a thread in the network of a site."""

    def __init__(self, network: Namespace, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if network.user is not None:
            pytest.skip("only root can be in the networks of sites by threads")
        self._network = os.open(network.network, os.O_RDONLY | os.O_CLOEXEC)

    def call(self, *arguments: Any, **options: Any) -> Answer:
        return within(self._network, lambda: Api.call(self, *arguments, **options))


def answers(api: Api, service: str, path: str) -> bool:
    """Return whether a GET succeeds."""
    with suppress(OSError, http.client.HTTPException, AtollError):
        return api.call(service, "GET", path).ok
    return False


def snapshot(root: Path) -> dict[str, tuple[int, int]]:
    """Return the size and the modification time of every file below a directory, except logs."""
    return {
        str(path.relative_to(root)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.suffix != ".log" and path.name != "lock"
    }

"""A cloud of real sites, as a test sees it: its command line, its processes, its APIs, its logs."""

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
from atoll.runtime.control import ProcessStatus, connect
from atoll.services import SERVICES, Settings
from atoll.site.gateway import GATEWAY
from atoll.wan.client import Wan
from atoll.wan.isolation import within

PATIENCE_S = 240.0
"""Seconds that anything may take: the machine may be busy with other things."""

NAMES = [*(service.name for service in SERVICES), GATEWAY.name]
_ATOLL = Path(sys.executable).with_name("atoll")
_TROUBLE = re.compile(r"\bERROR\b|\bCRITICAL\b|^Traceback|database is locked", re.MULTILINE)
_DELETED_MEANWHILE = re.compile(r"\[instance: (\S+)\] Failure prepping block device: nova\.exception\.BDMNotFound")
"""A server that was deleted while it was built. Nova's API removes the block devices of one without a host before it tries to remove the
server (`API._delete` in nova/compute/api.py). If the server has got its host meanwhile, its build ends so, and it is deleted there."""

T = TypeVar("T")


def until(look: Callable[[], T], what: str, patience_s: float = PATIENCE_S) -> T:
    """What `look` finds, as soon as it finds anything."""
    deadline = time.monotonic() + patience_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what}: still not so after {patience_s:.0f} s"
        time.sleep(0.05)
    return found


def kill(*pids: int) -> None:
    """`kill -9`, of all at once, and wait until they are gone."""
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
    """One cloud in a directory of its own.

    Attributes:
        root: its state directory.
        environment: of the commands that are run.
        before: what goes before each of them, such as a command that takes something away from it.
    """

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    before: tuple[str, ...] = ()

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """A command, running."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("OS_", "ATOLL_"))}
        clean["ATOLL_COMPUTE"] = "fake"  # what these tests are about needs no guests; tests/guests has them
        pipe = subprocess.PIPE
        command = [*self.before, _ATOLL, "--state", self.root, *arguments]
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, stdin=subprocess.DEVNULL, text=True, env=clean | self.environment)

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """A command, ended."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=2 * PATIENCE_S)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def atoll(self, *arguments: str | Path) -> str:
        """What a command that must succeed prints."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"{arguments}: {done.stderr}\n{self.trouble()[-3000:]}"
        return done.stdout

    def refused(self, *arguments: str | Path) -> str:
        """The one line of a command that must fail as expected; what goes on is told before it, if that takes a while."""
        done = self.run(*arguments)
        lines = [line for line in done.stderr.splitlines() if not line.startswith("hint: ") and not line.endswith(" …")]
        assert (done.returncode, done.stdout, len(lines)) == (1, "", 1), done
        assert lines[0].startswith("error: ")
        return lines[0].removeprefix("error: ")

    def file(self, *sites: dict[str, Any], topology: dict[str, Any] | None = None) -> Path:
        """The YAML of a cloud with these sites, beside the state directory."""
        path = self.root.with_suffix(".yaml")
        data = {"sites": list(sites)} | ({"topology": topology} if topology is not None else {})
        path.write_text(yaml.safe_dump(data), encoding="utf-8")
        return path

    def processes(self) -> dict[str, ProcessStatus]:
        """All of them, by name."""
        control = connect(self.root)
        return {status.name: status for status in control.status()} if control else {}

    def pids(self) -> dict[str, int]:
        """Those that run."""
        return {name: status.pid for name, status in self.processes().items() if status.pid is not None}

    def settings(self, site: str = "paris") -> Settings:
        return Settings.load(self.root / "sites" / site)

    def api(self, site: str = "paris", observe: Callable[[str, str, int], None] | None = None) -> Api:
        """A client, signed in as administrator."""
        settings = self.settings(site)
        api = Api(settings.public_url("identity", "/v3"), settings.secrets["admin"], observe=observe)
        api.sign_in()
        return api

    def wan(self) -> Wan:
        return Wan(self.root)

    def api_inside(self, site: str, user: str = "admin", password: str = "", project: str = "admin") -> Api:
        """A client that is in a site's own network and asks its gateway, signed in as its administrator or as somebody else."""
        settings = self.settings(site)
        url = settings.public_url("identity", "/v3")
        api = ApiInside(self.wan().namespace(site), url, password or settings.secrets["admin"], user, project=project)
        api.sign_in()
        return api

    def await_answers(self, site: str = "paris") -> float:
        """Wait until all five APIs answer correctly.

        Returns:
            How long that took, in seconds.
        """
        settings = self.settings(site)
        begun = time.monotonic()
        target = Target(settings.public_url("identity", "/v3"), settings.secrets["admin"], site, list)
        await_answers(target, lambda: None, PATIENCE_S)
        return time.monotonic() - begun

    def logs(self) -> dict[Path, int]:
        """The length of every log."""
        return {path: path.stat().st_size for path in self.root.rglob("*.log")}

    def trouble(self, since: dict[Path, int] | None = None, site: str = "") -> str:
        """What logs say of errors, with what follows each, but for those of servers that were deleted while they were built.

        Args:
            since: lengths of logs from which to look.
            site: whose logs; without it all, the runtime's too.
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
    """Makes each request from a thread in the network of a site."""

    def __init__(self, network: Namespace, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if network.user is not None:
            pytest.skip("only root can be in the networks of sites by threads")
        self._network = os.open(network.network, os.O_RDONLY | os.O_CLOEXEC)

    def call(self, *arguments: Any, **options: Any) -> Answer:
        return within(self._network, lambda: Api.call(self, *arguments, **options))


def answers(api: Api, service: str, path: str) -> bool:
    """True if a GET succeeds."""
    with suppress(OSError, http.client.HTTPException, AtollError):
        return api.call(service, "GET", path).ok
    return False


def snapshot(root: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file below a directory, but of logs."""
    return {
        str(path.relative_to(root)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.suffix != ".log" and path.name != "lock"
    }

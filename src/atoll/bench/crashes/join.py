"""The workflow `join`: a site with another state directory joins the cloud, while a process of either site, or the joining command, dies.

Each trial has a new site, because a name can be used only once in a cloud. In crash points, the new site's processes are called
`joining/…`, and the command by which it joins is the process `joining/command`. A command that dies or fails is run again with the same
token.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psutil

from atoll.bench.command import TIMEOUT_S, atoll, pids
from atoll.bench.crashes.client import ASK_AGAIN_S, RetryingClient
from atoll.bench.crashes.hooks import BOARD, ENVIRONMENT, JOINING
from atoll.bench.crashes.point import Plan, Point
from atoll.bench.crashes.remnants import remnants
from atoll.bench.crashes.trial import Trial
from atoll.bench.crashes.trial_sites import READY_S, SETTLED_S, TrialSites, view_of
from atoll.bench.failure import failed
from atoll.bench.faults.checker import check
from atoll.bench.faults.violation import Violation
from atoll.bench.waiting import wait_until
from atoll.bench.workspace import free_ports
from atoll.errors import AtollError
from atoll.files import make_directory, write_private
from atoll.runtime.client import ProcessState, ProcessStatus, connect
from atoll.site.gateway_client import ask
from atoll.site.sites import site_settings
from atoll.site.state import State

RUNS = 5
"""Greatest number of runs of the joining command: each planned death may end one of them."""

_ENDS_S = 30.0
"""Seconds within which the processes of a destroyed site end."""


@dataclass(frozen=True)
class Joiner:
    """A site that joins.

    Attributes:
        state: the state directory of the joining site.
        name: the name of the joining site.
        environment: the environment of the site's commands.
        log: the file for the output of the site's commands.
    """

    state: State
    name: str
    environment: Mapping[str, str]
    log: Path

    def join(self, token: str, password: Path) -> None:
        """Join with a token; run the command again if it does not succeed.

        Args:
            token: the token of the invitation.
            password: the path of the file with the administrator's password.

        Raises:
            AtollError: `bench.failed`: the last command did not succeed.
        """
        port = 0
        for _ in range(RUNS):
            if not self.state.root.exists():  # the command stopped before it created anything: another program may have taken the port
                (port,) = free_ports(1)
            status = self._run("site", "join", token, "--port", str(port), "--admin-password-file", str(password))
            if status == 0:
                return
            time.sleep(ASK_AGAIN_S)
        said = [line for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines() if line.startswith("error: ")]
        raise failed(f"{self.name} has not joined in {RUNS} runs of the command: {said[-1:] or status}")

    def _run(self, *words: str) -> int:
        """Run a command that dies at the crash points of the plan, and return its exit status."""
        command = [sys.executable, "-m", "atoll.bench.crashes.command", "--state", str(self.state.root), *words]
        with self.log.open("ab") as output:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=self.environment, timeout=TIMEOUT_S, check=False
            )
        return done.returncode

    def processes(self) -> dict[str, ProcessStatus]:
        """Return the site's processes, under their names in crash points: `joining/…`."""
        control = connect(self.state.root) if self.state.root.exists() else None
        statuses = control.status() if control else []
        site = f"{self.name}/"
        return {status.name.replace(site, f"{JOINING}/", 1): status for status in statuses if status.name.startswith(site)}

    def destroy(self) -> Iterator[Violation]:
        """Take the site out of the cloud and destroy it; yield a violation for each process and file that is left."""
        running = [psutil.Process(pid) for pid in pids(self.state) if psutil.pid_exists(pid)]
        atoll(self.state, self.log, self.environment, "site", "leave", self.name, "--yes")
        atoll(self.state, self.log, self.environment, "destroy", "--yes")
        _gone, alive = psutil.wait_procs(running, timeout=_ENDS_S)
        for process in alive:
            yield Violation("orphan", f"process {process.pid} of {self.name} still runs after `atoll destroy`")
        if self.state.root.exists():
            yield Violation("orphan", f"{[path.name for path in self.state.root.iterdir()]} are left of {self.name} after `atoll destroy`")


class JoinTester:
    """Executes trials in which a process dies while a site joins a cloud.

    Args:
        founder: the cloud that sites join.
        root: a directory for the state of the sites that join.
        environment: the environment of commands.
    """

    def __init__(self, founder: TrialSites, root: Path, environment: Mapping[str, str]) -> None:
        self._founder = founder
        self._root = root / JOINING
        make_directory(self._root)
        self._environment = {**environment, **ENVIRONMENT, BOARD: str(founder.board.directory.parent), "ATOLL_COMPUTE": "fake"}
        self._password = self._root / "password"
        write_private(self._password, founder.settings.secrets["admin"])
        self._numbers = count(1)

    def trial(self, workflow: str, deaths: tuple[Point, ...]) -> Trial:
        """Let a site join, check both sites, take the new site out again, and return the result.

        Args:
            workflow: the name of the workflow, `join`.
            deaths: the points at which a process dies, in order.
        """
        founder, client = self._founder, self._founder.client()
        founder.sign_in()
        round_ = f"join-{(number := next(self._numbers))}"
        with self._joiner(number) as (joiner, left):
            made = [client.make("user", f"before-{number}", password="a" * 10, description="before", enabled=True)]
            restarts = {name: status.restarts for name, status in founder.processes().items()}
            founder.board.begin(Plan(round_, deaths))
            violations: list[Violation] = []
            try:
                token = self._invite(joiner.name)
                joiner.join(token, self._password)
                made.append(client.make("user", f"after-{number}", password="b" * 10, description="after", enabled=True))
            except AtollError as error:
                violations.append(Violation("unhealthy", error.message))
            died, wrong = self._recovered(round_, deaths, restarts, client, joiner)
            violations += wrong
            founder.board.end()
        points = tuple(founder.board.reached(round_))
        violations += left
        for process in died:
            if not process.startswith(f"{JOINING}/"):
                founder.relieve(process)
        for each in made:
            client.retry("user.delete", each)
        violations += [Violation(each.kind, f"after cleaning: {each.what}") for each in founder.clean()]
        return Trial(workflow, deaths, len(died), tuple(violations), tuple(client.attempts), points)

    @contextmanager
    def _joiner(self, number: int) -> Iterator[tuple[Joiner, list[Violation]]]:
        """Yield a site that can join, and a list to which its removal, when the context ends, adds violations."""
        root = self._root / str(number)
        joiner = Joiner(State(root), f"site-{number}", self._environment, self._root / "commands.log")
        left: list[Violation] = []
        try:
            yield joiner, left
        finally:
            try:
                left += joiner.destroy()
            except AtollError as error:
                left.append(Violation("unhealthy", error.message))
                atoll(joiner.state, joiner.log, joiner.environment, "destroy", "--yes")

    def _invite(self, name: str) -> str:
        """Return a token with which a site can join. If the inviting site's process dies meanwhile, request another token."""
        tokens: list[str] = []

        def invited() -> bool:
            try:
                tokens.append(ask(self._founder.state, self._founder.sites[0], "invite", name=name, lifetime_s=3600.0)["token"])
            except AtollError:
                return False
            return True

        wait_until(invited, f"an invitation for {name}", READY_S)
        return tokens[0]

    def _recovered(
        self, round_: str, deaths: tuple[Point, ...], restarts: Mapping[str, int], client: RetryingClient, joiner: Joiner
    ) -> tuple[list[str], list[Violation]]:
        """Wait until all processes are ready and no violations are left.

        Returns:
            The names of the processes that died, and the violations that are left.
        """
        deadline = time.monotonic() + READY_S + SETTLED_S
        while True:
            died = [point.process for point in deaths[: self._founder.board.deaths(round_)]]
            wrong = list(self._wrong(restarts, died, client, joiner))
            if self._founder.board.deaths(round_) == len(died) and (not wrong or time.monotonic() > deadline):
                return died, wrong
            time.sleep(0.5)

    def _wrong(self, restarts: Mapping[str, int], died: list[str], client: RetryingClient, joiner: Joiner) -> Iterator[Violation]:
        founder = self._founder
        now = founder.processes() | joiner.processes()
        for name in {*now, *died} - {f"{JOINING}/command"}:
            back = name in now and now[name].restarts >= restarts.get(name, 0) + died.count(name)
            if not back or now[name].state not in (ProcessState.READY, ProcessState.DONE):
                yield Violation("unhealthy", f"{name} is {now[name].state if name in now else 'missing'}")
        if joiner.state.joining_file.exists():
            yield Violation("unhealthy", f"{joiner.name} still has the file that marks an unfinished join")
        try:
            settings = site_settings(joiner.state, joiner.name)
            for state, site in ((founder.state, founder.sites[0]), (joiner.state, joiner.name)):
                yield from self._members(state, site, {founder.sites[0], joiner.name})
        except AtollError as error:
            yield Violation("unhealthy", error.message)
            return
        views = [*founder.views(), view_of(settings)]
        yield from check(client.attempts, founder.before, views)
        for view, data in zip(views, (founder.settings.data, settings.data), strict=True):
            yield from () if view.error else remnants(data, view)

    @staticmethod
    def _members(state: State, site: str, names: set[str]) -> Iterator[Violation]:
        answer = ask(state, site, "members", timeout_s=READY_S)["members"]
        states = {each["name"]: each["state"] for each in answer if each["state"] != "left"}
        if states != dict.fromkeys(names, "alive"):
            yield Violation("unhealthy", f"the members according to {site} are {json.dumps(states)}")

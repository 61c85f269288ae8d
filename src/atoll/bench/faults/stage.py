"""The cloud that faults befall: brought up, looked at, brought back to health."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from atoll.bench.command import atoll
from atoll.bench.crashes.hooks import ENVIRONMENT
from atoll.bench.crashes.point import Board
from atoll.bench.faults.agent import Task
from atoll.bench.faults.clocks import Clocks
from atoll.bench.faults.fault import Stage
from atoll.bench.faults.view import View
from atoll.bench.faults.violation import Violation
from atoll.bench.measure import failed
from atoll.cloud import Cloud, dump_cloud
from atoll.errors import AtollError
from atoll.services.keystone_bootstrap import CATALOGUE
from atoll.site.gateway_client import ask
from atoll.site.sites import site_settings
from atoll.site.state import State
from atoll.site.status import status

DELAY_MS = 10.0
"""One way, between any two sites."""

_AGENT_S = 180.0
_ASK_S = 10.0


@contextmanager
def stage(root: Path, sites: tuple[str, ...], environment: Mapping[str, str]) -> Iterator[Stage]:
    """Bring a cloud up, and destroy it in the end.

    Args:
        root: a directory of the experiment's own.
        sites: their names.
        environment: of the commands.
    """
    state, file, log, clocks = State(root / "s"), root / "cloud.yaml", root / "commands.log", Clocks(root)
    topology = {"preset": "mesh", "defaults": {"delay": f"{DELAY_MS}ms"}}
    cloud = {"name": "faults", "sites": [{"name": name, "compute": "fake"} for name in sites], "topology": topology}
    file.write_text(dump_cloud(Cloud.model_validate(cloud)), encoding="utf-8")
    environment = {**environment, **clocks.environment, **ENVIRONMENT}
    atoll(state, log, environment, "up", str(file))
    made = Stage(state, sites, environment, log, clocks)
    clocks.know({site: made.wan.namespace(site) for site in sites})
    for site in sites:
        Board(state.site(site)).open()
    try:
        yield made
    finally:
        made.atoll("destroy", "--yes")


@dataclass
class Agent:
    """A process at a site; see `agent`."""

    site: str
    process: subprocess.Popen[bytes]
    log: Path

    def result(self, timeout_s: float = _AGENT_S) -> Any:  # noqa: ANN401, RUF100
        """What it found.

        Raises:
            AtollError: `bench.failed`: it found nothing.
        """
        try:
            found, _ = self.process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise failed(f"the agent at {self.site} has not ended within {timeout_s:.0f} s") from None
        if self.process.returncode != 0:
            said = self.log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
            raise failed(f"the agent at {self.site} failed: {said}")
        return json.loads(found)


def agent(cloud: Stage, role: str, site: str, details: Mapping[str, Any]) -> Agent:
    """Start an agent in the network of a site."""
    settings = site_settings(cloud.state, site)
    endpoints = {kind: settings.url(kind, path) for kind, (_name, path) in CATALOGUE.items()}
    task = Task(role, site, settings.public_url("identity", "/v3"), endpoints, settings.secrets["admin"], details)
    log = cloud.log.with_name(f"agent-{site}.log")
    words = [sys.executable, "-m", "atoll.bench.faults.agent"]
    with log.open("ab") as errors:
        process = cloud.wan.popen(site, words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # then it says itself what is wrong
        process.stdin.write(json.dumps(vars(task)).encode())
        process.stdin.close()
    process.stdin = None
    return Agent(site, process, log)


def ask_all(cloud: Stage, role: str, details: Mapping[str, Any]) -> list[Any]:
    """What agents at all sites find."""
    return [each.result() for each in [agent(cloud, role, site, details) for site in cloud.sites]]


def look(cloud: Stage, details: Mapping[str, Any]) -> list[View]:
    """What each site holds."""
    return [View(**found) for found in ask_all(cloud, "look", details)]


def heal(cloud: Stage) -> None:
    """Undo whatever was done to the cloud, and start what was killed.

    Raises:
        AtollError: `bench.failed`: a site doesn't start.
    """
    if cloud.clocks is not None:
        cloud.clocks.correct()
    cloud.atoll("site", "start", *cloud.sites)
    cloud.wan.heal()
    for first, second in combinations(cloud.sites, 2):
        cloud.wan.set(f"{first}:{second}", {"loss": 0.0})


def health(cloud: Stage) -> list[Violation]:
    """What is wrong with the sites' processes, and with what their gateways have to do still."""
    ill = [site for site in status(cloud.state).sites if site.state != "up"]
    found = [Violation("unhealthy", f"{site.name} is {site.state}: {_ill(site.processes)}") for site in ill]
    for site in cloud.sites:
        found += _of_gateway(cloud, site)
    return found


def _ill(rows: Sequence[Any]) -> str:
    return ", ".join(f"{row.name} {row.state}" for row in rows if row.state != "ready")


def _of_gateway(cloud: Stage, site: str) -> Iterator[Violation]:
    try:
        members = ask(cloud.state, site, "GET", "/members", timeout_s=_ASK_S)["members"]
        pending = ask(cloud.state, site, "GET", "/pending", timeout_s=_ASK_S)["pending"]
    except AtollError as error:
        yield Violation("unhealthy", error.message)
        return
    away = [f"{each['name']} {each['state']}" for each in members if each["state"] != "alive"]
    if away:
        yield Violation("unhealthy", f"{site} takes for away: {', '.join(away)}")
    if pending:
        yield Violation("unhealthy", f"{len(pending)} operations are pending at {site}: {pending[:3]}")

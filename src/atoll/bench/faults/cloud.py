"""The cloud of the experiment: its start, the reading of its contents, and the end of all faults."""

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

from atoll.bench.crashes.hooks import ENVIRONMENT
from atoll.bench.crashes.point import Board
from atoll.bench.failure import failed
from atoll.bench.faults.agent import Task
from atoll.bench.faults.clocks import Clocks
from atoll.bench.faults.fault import FaultyCloud
from atoll.bench.faults.view import View
from atoll.bench.faults.violation import Violation
from atoll.bench.own_cloud import own_cloud
from atoll.cloud.databases import SQLITE, parse_database
from atoll.errors import AtollError
from atoll.services.keystone.bootstrap import CATALOGUE
from atoll.site.gateway_client import ask
from atoll.site.sites import site_settings
from atoll.site.status import status

DELAY_MS = 10.0
"""The one-way delay between any two sites, in milliseconds."""

_AGENT_S = 900.0
"""Seconds to wait for an agent. Its requests have time limits of their own; with a load average of 20, reading a site takes minutes."""

_ASK_S = 10.0


@contextmanager
def faulty_cloud(root: Path, sites: tuple[str, ...], environment: Mapping[str, str], database: str = SQLITE) -> Iterator[FaultyCloud]:
    """Start a cloud, yield it, and destroy it when the context ends.

    Args:
        root: the experiment's own directory.
        sites: the names of the sites.
        environment: the environment of the commands.
        database: the place of each site's databases, as `parse_database` reads it.
    """
    place = parse_database(database)
    clocks = Clocks(root)
    topology = {"preset": "mesh", "defaults": {"delay": f"{DELAY_MS}ms"}}
    document = {"name": "faults", "sites": [{"name": name, "compute": "fake", "database": place} for name in sites], "topology": topology}
    environment = {**environment, **clocks.environment, **ENVIRONMENT}
    with own_cloud(root, document, environment) as own:
        made = FaultyCloud(own.state, sites, environment, own.log, clocks)
        clocks.register({site: made.wan.namespace(site) for site in sites})
        for site in sites:
            Board(own.state.site(site)).open()
        yield made


@dataclass
class Agent:
    """A process in the network of a site; see `agent`."""

    site: str
    process: subprocess.Popen[bytes]
    log: Path

    def result(self, timeout_s: float = _AGENT_S) -> Any:
        """Return the result of the agent's task.

        Raises:
            AtollError: `bench.failed`: the agent failed, or did not end in time.
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


def agent(cloud: FaultyCloud, role: str, site: str, details: Mapping[str, Any]) -> Agent:
    """Start an agent in the network of a site, and return it."""
    settings = site_settings(cloud.state, site)
    endpoints = {kind: settings.url(kind, path) for kind, (_name, path) in CATALOGUE.items()}
    task = Task(role, site, settings.public_url("identity", "/v3"), endpoints, settings.secrets["admin"], details)
    log = cloud.log.with_name(f"agent-{site}.log")
    words = [sys.executable, "-m", "atoll.bench.faults.agent"]
    with log.open("ab") as errors:
        process = cloud.wan.popen(site, words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # the agent has ended already, and its log has the reason
        process.stdin.write(json.dumps(vars(task)).encode())
        process.stdin.close()
    process.stdin = None
    return Agent(site, process, log)


def ask_all(cloud: FaultyCloud, role: str, details: Mapping[str, Any]) -> list[Any]:
    """Run a task at all sites and return the results."""
    return [each.result() for each in [agent(cloud, role, site, details) for site in cloud.sites]]


def look(cloud: FaultyCloud, details: Mapping[str, Any]) -> list[View]:
    """Return the contents of each site, as its services and its gateway show them."""
    return [View(**found) for found in ask_all(cloud, "look", details)]


def heal(cloud: FaultyCloud) -> None:
    """Undo all faults and start the processes that were killed.

    Raises:
        AtollError: `bench.failed`: a site did not start.
    """
    if cloud.clocks is not None:
        cloud.clocks.correct()
    cloud.atoll("site", "start", *cloud.sites)
    cloud.wan.heal()
    for first, second in combinations(cloud.sites, 2):
        cloud.wan.set(f"{first}:{second}", {"loss": 0.0})


def health(cloud: FaultyCloud) -> list[Violation]:
    """Return the violations in the states of processes, of members, and of pending operations."""
    ill = [site for site in status(cloud.state).sites if site.state != "up"]
    found = [Violation("unhealthy", f"{site.name} is {site.state}: {_ill(site.processes)}") for site in ill]
    for site in cloud.sites:
        found += _of_gateway(cloud, site)
    return found


def _ill(rows: Sequence[Any]) -> str:
    return ", ".join(f"{row.name} {row.state}" for row in rows if row.state != "ready")


def _of_gateway(cloud: FaultyCloud, site: str) -> Iterator[Violation]:
    try:
        members = ask(cloud.state, site, "members", timeout_s=_ASK_S)["members"]
        pending = ask(cloud.state, site, "pending", timeout_s=_ASK_S)["pending"]
    except AtollError as error:
        yield Violation("unhealthy", error.message)
        return
    away = [f"{each['name']} {each['state']}" for each in members if each["state"] != "alive"]
    if away:
        yield Violation("unhealthy", f"{site} considers these sites unreachable: {', '.join(away)}")
    if pending:
        yield Violation("unhealthy", f"{len(pending)} operations are pending at {site}: {pending[:3]}")

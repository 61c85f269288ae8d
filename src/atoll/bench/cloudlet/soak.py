"""A soak: random starts and hand-offs under random faults; every server must exist once, run once, and be bit-exact."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from atoll.bench.cell_faults.disks import SiteDisks, lacking
from atoll.bench.cell_faults.kinds import KINDS, Stage
from atoll.bench.cell_faults.links import FaultyLinks
from atoll.bench.cloudlet import disks
from atoll.bench.cloudlet.guest import CloudletGuest
from atoll.bench.cloudlet.handoff_state import handoff_request
from atoll.bench.cloudlet.material import MadeOverlay, OverlayMaker
from atoll.bench.cloudlet.parts import EDGE, HOME
from atoll.bench.cloudlet.running import TwinWatch, guests
from atoll.bench.cloudlet.sites import NomadSites, nomad_cloud
from atoll.bench.cloudlet.soak_checks import ListedServer, violations
from atoll.bench.cloudlet.soak_outcome import SoakOutcome
from atoll.bench.cloudlet.soak_plan import SoakStep, plan
from atoll.bench.cloudlet.syntheses import Starts
from atoll.bench.command import atoll
from atoll.bench.crashes.client import RetryingClient
from atoll.bench.faults.cloud import health
from atoll.bench.faults.fault import FaultyCloud
from atoll.bench.faults.violation import Violation
from atoll.bench.progress import Say
from atoll.bench.workspace import Workspace
from atoll.errors import AtollError
from atoll.guest import LEAST_MIB, build
from atoll.site.machine import obstacle
from atoll.site.sites import applied_cloud
from atoll.site.state import State

SETTLED_S = 900.0
"""Seconds within which an operation must end, and within which all violations must disappear once all faults are undone."""

_LOOK_S = 1.0
_ENDED = {"done", "failed"}
_NO_ANSWER = (OSError, http.client.HTTPException, AtollError, LookupError)


def check_soak() -> None:
    """Check, before anything starts, that this machine and this user can run real guests.

    Raises:
        AtollError: `guests.unavailable`.
    """
    why_not = obstacle()
    if why_not is not None:
        raise why_not


def run(steps: int, seed: int, work: Workspace, cache: Path) -> SoakOutcome:
    """Run a soak in a cloud of its own.

    Args:
        steps: the number of starts and hand-offs.
        seed: the seed of all random choices.
        work: the experiment's workspace.
        cache: the user's cache directory, with the guest image.

    Raises:
        AtollError: `guests.unavailable`: this machine or this user can't run guests; `image.*`: the guest image can't be built;
            `bench.failed`: the cloud can't be started, or its overlay can't be made.
    """
    check_soak()
    outcome = SoakOutcome(seed)
    why_not = lacking(work.root)
    if why_not:
        outcome.notes.append(f"no disk was filled: {why_not}")
    kinds = ("cut", "kill") if why_not else ("cut", "kill", "full-disk")
    filled = SiteDisks(work.root, () if why_not else (HOME, EDGE))
    root, directory = work.root / "cloud", work.root / "made"
    root.mkdir()
    directory.mkdir()
    guest = CloudletGuest("guest", build(cache, None, work.say).path, None, "", LEAST_MIB)
    work.say("two sites")
    with nomad_cloud(root, work.environment, () if why_not else (filled,)) as cloud:
        maker = OverlayMaker(guest, directory, partial(atoll, State(directory / "none"), directory / "commands.log", work.environment))
        sites = NomadSites(cloud, guest.memory_mib, guest.disk_gib)
        soak = Soak(sites, maker, None if why_not else filled, outcome, work.say)
        with TwinWatch(partial(guests, cloud.state.root / "sites", cloud.names)) as twins:
            for step in plan(steps, seed, kinds):
                soak.carry_out(step)
            soak.check()
        outcome.violations += twins.violations.values()
    return outcome


class Soak:
    """Carries out steps and checks their results.

    Args:
        sites: the running sites.
        maker: makes the base and the overlay.
        filled: the disks of the sites; `None` if no disk is filled.
        outcome: takes the counts and the violations.
        say: called with lines about the progress.
    """

    def __init__(self, sites: NomadSites, maker: OverlayMaker, filled: SiteDisks | None, outcome: SoakOutcome, say: Say) -> None:
        self._sites, self._outcome, self._say = sites, outcome, say
        cloud = sites.cloud
        made = FaultyCloud(cloud.state, cloud.names, cloud.environment, cloud.log)
        model = applied_cloud(cloud.state)
        assert model is not None
        assert model.network is not None
        self._faulty, self._stage = made, Stage(made, FaultyLinks(made.wan, model.network), filled)
        starts = Starts(sites, maker, "")
        self._made: MadeOverlay = maker.overlay(starts.base())
        self._image = starts.upload(HOME, self._made)
        self._content = disks.digest(self._made.disk)
        tenancy = {"image": self._image, "flavor": str(sites.server_fields["flavorRef"]), "network": sites.network}
        self._client = RetryingClient(cloud.api(EDGE), EDGE, tenancy, cloud.names)
        self._servers: dict[str, str] = {}  # the site of each server by its id, in the order of their creation
        self._left: set[str] = set()  # the names of servers whose deletion was not acknowledged

    def carry_out(self, step: SoakStep) -> None:
        """Carry out one step, with its fault, and wait until the fault is undone."""
        self._say(f"step {step.number}: {step}")
        self._outcome.counts["steps"] += 1
        try:
            self._sites.sign_in()
            if step.operation == "synthesis" or not self._servers:
                self._start(step)
            else:
                self._move(step)
        except _NO_ANSWER as error:
            self._outcome.counts["unanswered"] += 1
            self._say(f"step {step.number}: {error.message if isinstance(error, AtollError) else error}")

    def check(self) -> None:
        """End all faults, and check until no violation is left or the time is over; then record the violations that are left."""
        self._faulty.wan.heal()
        self._faulty.atoll("site", "start", HOME, EDGE)
        deadline, found = time.monotonic() + SETTLED_S, self._violations()
        while found and time.monotonic() < deadline:
            self._say(f"{len(found)} violations are left: {found[0].what[:200]}")
            time.sleep(_LOOK_S * 5)
            found = self._violations()
        self._outcome.violations += found
        self._outcome.counts["servers"] = len(self._servers)

    def _start(self, step: SoakStep) -> None:
        """Start a server from the overlay, and compare its disk; a server that could not start is deleted."""
        with self._fault(step):
            name = self._client.make("server", f"soak-{step.number}", zone=step.site)
            self._outcome.counts["starts"] += 1
            shown = self._client.await_server(name, lambda server: server["status"] == "ACTIVE", SETTLED_S)
        server = self._client.id(name)
        if shown.get("status") != "ACTIVE":
            self._outcome.counts["refused starts"] += 1
            self._say(f"step {step.number}: {shown.get('fault', {}).get('message', 'the server did not start')[:300]}")
            self._left.add(name)
            self._client.retry("server.delete", name)
            self._client.await_gone(name, SETTLED_S)
            self._left.remove(name)
            return
        self._servers[server] = step.site
        self._compare(server, self._content, step)

    def _move(self, step: SoakStep) -> None:
        """Hand off a server, wait for the end of the hand-off, and compare the disk if the server has moved."""
        server = list(self._servers)[int(step.choice * len(self._servers)) % len(self._servers)]
        source = self._servers[server]
        destination = EDGE if source == HOME else HOME
        instances = self._sites.instances(source)
        held = disks.hold(instances, server, instances.parent / "bench")
        with self._fault(step):
            self._outcome.counts["hand-offs"] += 1
            shown = self._handed_off(source, server, destination)
        if shown.get("state") == "done":
            self._servers[server] = destination
            self._compare(server, held.digest(), step)
        elif shown.get("state") == "failed":
            self._outcome.counts["failed hand-offs"] += 1
            self._say(f"step {step.number}: {shown.get('reason')}")
        else:
            self._outcome.violations.append(Violation("unhealthy", f"the hand-off of server {server} has not ended: {dict(shown)}", server))
        held.release()

    def _handed_off(self, source: str, server: str, destination: str) -> Mapping[str, Any]:
        """Request a hand-off, continue it if it is interrupted, and return its last state; a refusal is a failure with its reason."""
        api, deadline = self._sites.inside(source), time.monotonic() + SETTLED_S
        shown: Mapping[str, Any] = {}
        while shown.get("state") not in _ENDED and time.monotonic() < deadline:
            idle = not shown or (shown["state"] == "copying" and not shown["running"])
            with suppress(*_NO_ANSWER):
                body = {"site": destination} if idle else None
                query = "" if idle else f"?id={shown['id']}"
                answer = handoff_request(api, "POST" if idle else "GET", server, query, body)
                if answer.ok:
                    shown = answer.body
                elif answer.status < 500 and not shown:
                    return {"state": "failed", "reason": str(answer.body)}
            time.sleep(_LOOK_S)
        return shown

    def _compare(self, server: str, content: str, step: SoakStep) -> None:
        site = self._servers[server]
        if disks.digest(disks.received(self._sites.instances(site), server)) != content:
            what = f"the disk of server {server} at {site} is not exact after step {step.number}"
            self._outcome.violations.append(Violation("different", what, server))
        else:
            self._outcome.counts["exact disks"] += 1

    def _violations(self) -> list[Violation]:
        try:
            listed = [each for site in self._sites.cloud.names for each in self._listed(site)]
            sick = health(self._faulty)
        except _NO_ANSWER as error:
            return [Violation("unhealthy", f"the sites can't be read: {error}")]
        running = guests(self._sites.cloud.state.root / "sites", self._sites.cloud.names)
        possible = self._left | {each.resource for each in self._client.attempts if each.outcome == "unknown"}
        return sick + violations(self._servers.keys(), possible, listed, running)

    def _listed(self, site: str) -> list[ListedServer]:
        rows = self._sites.inside(site).expect("compute", "GET", "/servers/detail?all_tenants=1")["servers"]
        return [ListedServer(site, row["id"], row["name"], row["status"]) for row in rows]

    @contextmanager
    def _fault(self, step: SoakStep) -> Iterator[None]:
        """Inject the fault of a step while the context lasts, and undo it at the latest at the end of its time."""
        thread = threading.Thread(target=self._happen, args=(step,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            thread.join()

    def _happen(self, step: SoakStep) -> None:
        if not step.fault:
            return
        time.sleep(step.after_s)
        fault, kind = step.fault_step(), KINDS[step.fault]
        try:
            kind.inject(self._stage, fault)
            try:
                time.sleep(step.lasts_s)
            finally:
                kind.undo(self._stage, fault)
            self._outcome.counts[step.fault] += 1
        except (AtollError, OSError, KeyError) as error:
            self._outcome.notes.append(f"step {step.number}: {fault}: {error.message if isinstance(error, AtollError) else error}")

"""A run of a schedule: clients work at all sites while faults happen; then the faults are undone, and the sites' contents are checked."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count as count_from
from pathlib import Path
from typing import Any

from atoll.bench.failure import failed
from atoll.bench.faults.checker import check, questions
from atoll.bench.faults.client import PATIENCE_S
from atoll.bench.faults.cloud import Agent, agent, ask_all, faulty_cloud, heal, health, look
from atoll.bench.faults.fault import Fault, FaultyCloud
from atoll.bench.faults.identity_checks import replicas
from atoll.bench.faults.kinds import SERVER_KINDS
from atoll.bench.faults.log import Attempt, read
from atoll.bench.faults.replay import keep, keep_logs
from atoll.bench.faults.schedule import Schedule
from atoll.bench.faults.view import View
from atoll.bench.faults.violation import Violation, count
from atoll.bench.progress import Say
from atoll.bench.workspace import Workspace
from atoll.errors import AtollError

CLIENTS_PER_SITE = 2

JOINED_S = 600.0
"""Seconds to wait until all sites of a new cloud hold the same replicated data."""

CONVERGED_S = 180.0
"""Seconds after the end of all faults within which all violations must disappear; sites that were just started are still busy."""

LEAST_READS = 3
"""Least number of times that the sites are read before violations are final. One reading may take longer than `CONVERGED_S`."""

_LAST_ANSWERS_S = 2 * PATIENCE_S
_READ_AGAIN_S = 2.0
_SHOWN = 50


@dataclass(frozen=True)
class RoundOutcome:
    """The result of a run.

    Attributes:
        schedule: the schedule.
        attempts: the clients' log.
        violations: the violations that were left after the time limit.
        converge_s: seconds from the end of all faults until the replicas of identity were found equal; `None` if they stayed different.
        settle_s: seconds from the end of all faults until no violations were found; `None` if some were left.
        unasked: the number of operations that were not requested, by reason.
        failures: errors of faults that could not be injected.
    """

    schedule: Schedule
    attempts: Sequence[Attempt]
    violations: Sequence[Violation]
    converge_s: float | None
    settle_s: float | None
    unasked: Mapping[str, int]
    failures: Sequence[str] = ()

    @property
    def ok(self) -> bool:
        """True if no violations were left and all faults were injected."""
        return not self.violations and not self.failures

    def to_json(self) -> dict[str, Any]:
        """Return the report of the run, ready for `json.dumps`."""
        kinds = count(self.violations)
        outcomes = Counter(attempt.outcome for attempt in self.attempts)
        operations: dict[str, dict[str, int]] = {}
        for attempt in self.attempts:
            operations.setdefault(attempt.kind, dict.fromkeys(("acknowledged", "failed", "unknown"), 0))[attempt.outcome] += 1
        return {
            "seed": self.schedule.seed,
            "minutes": round(self.schedule.seconds / 60, 3),
            "sites": len(self.schedule.sites),
            "database": self.schedule.database,
            "acknowledged": outcomes["acknowledged"],
            "failed": outcomes["failed"],
            "unknown": outcomes["unknown"],
            "unasked": dict(self.unasked),
            "lost": kinds["lost"],
            "duplicated": kinds["duplicated"],
            "orphans": kinds["orphan"],
            "different": kinds["different"],
            "unhealthy": kinds["unhealthy"],
            "converged": self.converge_s is not None and not kinds["different"],
            "converge_s": self.converge_s,
            "settle_s": self.settle_s,
            "operations": dict(sorted(operations.items())),
            "faults": dict(sorted(Counter(fault.kind for fault in self.schedule.faults).items())),
            "faults_failed": list(self.failures),
            "violations": [f"{violation.kind}: {violation.what}" for violation in self.violations[:_SHOWN]],
        }


def run(plan: Schedule, work: Workspace, kept: Path | None = None) -> RoundOutcome:
    """Run the whole experiment, and return its outcome.

    Args:
        plan: the schedule to run.
        work: the experiment's workspace.
        kept: the directory to which the run is written, for a later replay; `None` means that it is not written.

    Raises:
        AtollError: `bench.failed`: a step of the experiment failed; `bench.requirement`: this machine lacks a program, such as a C
            compiler; `wan.unavailable`: this machine can't emulate a WAN.
    """
    work.say(f"{len(plan.sites)} sites")
    with faulty_cloud(work.root, plan.sites, work.environment, plan.database) as cloud:
        _await_agreement(cloud, work.say)
        work.say("creating images, flavors and networks for servers at each site")
        tenancies = dict(zip(cloud.sites, ask_all(cloud, "prepare", {}), strict=True))
        before = _await_agreement(cloud, work.say)
        with FaultInjector(cloud, plan, work.say) as injector:
            unasked = _work(cloud, plan, tenancies, injector, work.say)
            work.say("the faults are over: healing all links, and starting all sites")
        heal(cloud)
        attempts = read(work.root.glob("log-*.jsonl"))
        found = ConvergenceCheck(cloud, plan, attempts, before, work.say)
        found.watch()
        if kept is not None:
            keep(kept, plan, attempts, before, found.views)
            keep_logs(kept, cloud.state.root)
        return RoundOutcome(plan, attempts, found.violations, found.converge_s, found.settle_s, unasked, injector.failures)


def _await_agreement(cloud: FaultyCloud, say: Say) -> list[View]:
    """Wait until all sites are healthy and hold the same replicated data; return the contents of each site."""
    begun = time.monotonic()
    while True:
        views = look(cloud, {})
        wrong = health(cloud) + check([], views, views)
        if not wrong:
            return views
        if time.monotonic() - begun > JOINED_S:
            raise failed(f"the sites still differ after {JOINED_S:.0f} s: {wrong[0].what}")
        say(f"waiting for the sites to agree ({len(wrong)} violations: {wrong[0].what[:160]})")
        time.sleep(_READ_AGAIN_S)


def _work(cloud: FaultyCloud, plan: Schedule, tenancies: Mapping[str, Any], injector: FaultInjector, say: Say) -> dict[str, int]:
    """Run all clients until the end of the schedule, while faults happen.

    Returns:
        The number of operations that were not requested, by reason.
    """
    say(f"{len(plan.clients)} clients and {len(plan.faults)} faults for {plan.seconds:.0f} s")
    begin_s = time.monotonic() + 1
    agents: list[Agent] = []
    for site in cloud.sites:
        clients = {name: [each.to_json() for each in operations] for name, operations in plan.of(site).items()}
        details = {"clients": clients, "tenancy": tenancies[site], "begin_s": begin_s, "end_s": begin_s + plan.seconds}
        agents.append(agent(cloud, "work", site, {**details, "log": str(cloud.log.with_name(f"log-{site}.jsonl"))}))
    injector.begin(begin_s)
    unasked: Counter[str] = Counter()
    for each in agents:
        unasked.update(each.result(max(0.0, begin_s + plan.seconds - time.monotonic()) + _LAST_ANSWERS_S))
    return dict(unasked)


class FaultInjector:
    """Injects and undoes the faults of a schedule, each in a thread of its own.

    Used as a context, it waits at the end until all faults are undone, also after an error or Ctrl-C. Otherwise, the commands that undo
    them would hold the lock of a cloud that is about to be destroyed.

    Args:
        cloud: the cloud that the faults affect.
        plan: the schedule.
        say: called with a line about each fault.
    """

    def __init__(self, cloud: FaultyCloud, plan: Schedule, say: Say) -> None:
        self._cloud = cloud
        self._plan = plan
        self._say = say
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self.failures: list[str] = []

    def __enter__(self) -> FaultInjector:
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def begin(self, begin_s: float) -> None:
        """Start the threads; the times of the faults are relative to `begin_s` of the monotonic clock."""
        for fault in self._plan.faults:
            thread = threading.Thread(target=self._happen, args=(fault, begin_s), name=str(fault), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _happen(self, fault: Fault, begin_s: float) -> None:
        if self._over.wait(max(0.0, begin_s + fault.at_s - time.monotonic())):
            return
        self._say(str(fault))
        try:
            SERVER_KINDS[fault.kind].inject(self._cloud, fault, self._over.wait)
        except AtollError as error:
            self.failures.append(f"{fault}: {error.message}")


@dataclass
class ConvergenceCheck:
    """The repeated check after the faults, until no violation is left or the time limit is reached.

    Attributes:
        cloud: the cloud after the faults.
        plan: the schedule.
        attempts: the clients' log.
        before: the contents of each site before the first request.
        say: called with lines about the violations that are left.
        views: the latest contents of the sites.
        violations: the latest violations.
        converge_s: see `RoundOutcome`.
        settle_s: see `RoundOutcome`.
    """

    cloud: FaultyCloud
    plan: Schedule
    attempts: Sequence[Attempt]
    before: Sequence[View]
    say: Say
    views: list[View] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    converge_s: float | None = None
    settle_s: float | None = None

    def watch(self) -> None:
        """Check until no violation is left, or the time limit is reached."""
        begun = time.monotonic()
        for reads in count_from(1):
            if self.converge_s is None and self._agree():
                self.converge_s = round(time.monotonic() - begun, 1)
            self._look()
            looked_s = time.monotonic() - begun
            if not self.violations:
                self.settle_s = round(looked_s, 1)
            if not self.violations or (looked_s > CONVERGED_S and reads >= LEAST_READS):
                return
            self.say(f"{len(self.violations)} violations are left: {self.violations[0].what[:200]}")
            time.sleep(_READ_AGAIN_S)

    def _agree(self) -> bool:
        views = look(self.cloud, {"identity_only": True})
        return not any(view.error for view in views) and not list(replicas(views))

    def _look(self) -> None:
        self.views = look(self.cloud, questions(self.attempts, self.plan.seed))
        self.violations = health(self.cloud) + check(self.attempts, self.before, self.views)

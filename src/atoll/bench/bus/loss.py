"""`atoll bench bus-loss`: cast while servers are restarted and killed, and count the casts that are lost or executed twice."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from atoll.bench.bus import evidence
from atoll.bench.bus.accounting import NUMBER_BYTES, Account, numbers_in, settle
from atoll.bench.bus.bus import Bus, opened
from atoll.bench.bus.processes import Worker, WorkerTemplate, end_all, share
from atoll.bench.bus.work import CallTally
from atoll.bench.progress import Say
from atoll.bench.workspace import Workspace

CLIENT_PROCESSES = 2
CLIENTS = 16
"""Number of casting threads in all client processes together."""

SERVERS = 3
"""Number of servers on the topic: while one restarts, the others serve."""

_SETTLE_S = 20.0
"""Seconds without an execution after which missing casts are considered lost."""

_SURE_S = 3.0
"""Seconds without an execution after which the run ends, if all casts have been executed."""

_REPORT_S = 20.0
_POLL_S = 0.05


@dataclass(frozen=True)
class LossOptions:
    """The size and the conditions of the experiment.

    Attributes:
        casts: the number of casts.
        name: the name of the transport, "zenoh" or "rabbit".
        journal: whether servers of Zenoh's transport keep each acknowledged cast on the disk until they begin to execute it.
        interval_s: the mean number of seconds between two restarts.
        kill: the share of restarts by SIGKILL, 0 to 1; the others are graceful.
        seed: the seed of the random times and choices.
    """

    casts: int = 1_000_000
    name: str = "zenoh"
    journal: bool = True
    interval_s: float = 2.0
    kill: float = 0.5
    seed: int = 0


@dataclass(frozen=True)
class LossOutcome:
    """The result of the experiment.

    Attributes:
        account: the number of casts by their outcome.
        restarts_term: the number of graceful restarts.
        restarts_kill: the number of restarts by SIGKILL.
        seconds: the time from the first cast to the last acknowledgement.
        errors: the number of casts that raised, by the name of the exception.
        examples: the messages of a few of these exceptions.
    """

    account: Account
    restarts_term: int
    restarts_kill: int
    seconds: float
    errors: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, object]:
        """Return the result as plain data; the account's counts are on the top level."""
        rate = round(self.account.acknowledged / self.seconds, 1) if self.seconds else None
        return asdict(self.account) | {
            "restarts_term": self.restarts_term,
            "restarts_kill": self.restarts_kill,
            "seconds": round(self.seconds, 1),
            "casts_per_s": rate,
            "errors": self.errors,
            "examples": self.examples,
        }

    @property
    def bad(self) -> list[str]:
        """Descriptions of the failures; empty if there were none."""
        counts = {"lost": self.account.lost, "executed_twice": self.account.executed_twice}
        return [f"{name}: {count}" for name, count in counts.items() if count]


class Servers:
    """The servers of the experiment; a server that ends is replaced by one of the same name.

    Args:
        template: the process that forks the servers.
        configuration: the configuration file of the transport.
        directory: the directory of the servers' records.
        journals: the directory of the servers' journals; `None` if they keep none.
    """

    def __init__(self, template: WorkerTemplate, configuration: Path, directory: Path, journals: Path | None) -> None:
        self._template = template
        self._configuration = configuration
        self._directory = directory
        self._journals = journals
        self._made = 0
        self._running = [self._serve(index) for index in range(SERVERS)]
        self.restarts = {signal.SIGTERM: 0, signal.SIGKILL: 0}
        self.begun: set[int] = set()

    def restart(self, index: int, number: signal.Signals) -> None:
        """End one server by a signal and start its replacement."""
        self._running[index].end(number)
        if number == signal.SIGKILL and self._journals:
            # Read the journals now, because the server's replacement removes them.
            self.begun |= evidence.begun(evidence.journals(self._journals, _name(index)))
        self._running[index] = self._serve(index)
        self.restarts[number] += 1

    def check(self) -> None:
        """Check that no server has ended by itself.

        Raises:
            AtollError: `bench.failed`: a server has ended.
        """
        for worker in self._running:
            worker.check()

    def records(self) -> list[Path]:
        """Return the files with the numbers of the executed casts."""
        return sorted(self._directory.glob("*.executed"))

    def executed(self) -> int:
        """Return the number of casts executed so far."""
        return sum(path.stat().st_size for path in self.records()) // NUMBER_BYTES

    def end(self) -> None:
        """End all servers gracefully."""
        end_all(self._running)

    def _serve(self, index: int) -> Worker:
        self._made += 1
        worker = self._template.fork("recorder", f"recorder-{self._made}")
        record = self._directory / f"{worker.name}.executed"
        worker.ask("serve", configuration=str(self._configuration), name=_name(index), record=str(record))
        return worker


def _name(index: int) -> str:
    return f"server-{index}"


def plan(options: LossOptions, now: float) -> Callable[[float], tuple[int, signal.Signals] | None]:
    """Return a random plan of the restarts.

    Args:
        options: the mean interval, the share of kills and the seed.
        now: the time at which the plan begins, in seconds.

    Returns:
        A function that takes the time in seconds and returns the server to restart now and the signal, or `None` for no restart.
    """
    chance = random.Random(options.seed)
    due = now + chance.uniform(0.5, 1.5) * options.interval_s

    def choose(moment: float) -> tuple[int, signal.Signals] | None:
        nonlocal due
        if moment < due:
            return None
        due = moment + chance.uniform(0.5, 1.5) * options.interval_s
        return chance.randrange(SERVERS), signal.SIGKILL if chance.random() < options.kill else signal.SIGTERM

    return choose


def run(options: LossOptions, work: Workspace) -> LossOutcome:
    """Run the whole experiment, and return its outcome.

    Args:
        options: the size and the conditions of the experiment.
        work: the experiment's workspace.

    Raises:
        AtollError: `bench.failed`: the experiment could not be done.
    """
    with opened(options.name, work.root / "bus", work.environment, journal=options.journal) as bus:
        return _run(bus, options, work.root, work.environment, work.say)


def _run(bus: Bus, options: LossOptions, root: Path, environment: Mapping[str, str], say: Say) -> LossOutcome:
    configuration = root / "transport.conf"
    bus.transport.write(configuration)
    template = WorkerTemplate(root, environment)
    template.ask("load", modules=bus.transport.modules)
    servers = Servers(template, configuration, root, bus.transport.journals)
    clients = _clients(template, configuration)
    say(f"{options.casts} casts from {CLIENTS} clients to {SERVERS} servers, which are restarted meanwhile")
    begun, first = time.monotonic(), 0
    for worker, count in zip(clients, share(options.casts, CLIENT_PROCESSES), strict=True):
        worker.tell("cast_numbers", first=first, last=first + count, directory=str(root), name=worker.name)
        first += count
    _restart_until_done(clients, servers, options, say)
    total, ended = CallTally(), begun
    for worker in clients:
        tally, moment = worker.answer()
        total.add(tally)
        ended = max(ended, moment)
    say("waiting for casts that are still being delivered")
    _await_quiet(servers, total.sent)
    end_all(clients)
    servers.end()
    template.end()
    told = {kind: numbers_in(root.glob(f"*.{kind}")) for kind in ("acknowledged", "failed")}
    account = settle(options.casts, told["acknowledged"], told["failed"], numbers_in(servers.records()), servers.begun)
    restarts = servers.restarts
    return LossOutcome(account, restarts[signal.SIGTERM], restarts[signal.SIGKILL], ended - begun, dict(total.errors), total.examples)


def _clients(template: WorkerTemplate, configuration: Path) -> list[Worker]:
    workers = [template.fork("casters", f"casters-{index}") for index in range(CLIENT_PROCESSES)]
    for worker, count in zip(workers, share(CLIENTS, CLIENT_PROCESSES), strict=True):
        worker.ask("prepare", count=count)
        worker.ask("open", configuration=str(configuration))
    return workers


def _restart_until_done(clients: list[Worker], servers: Servers, options: LossOptions, say: Say) -> None:
    choose = plan(options, time.monotonic())
    told = time.monotonic()
    while not all(worker.ready() for worker in clients):
        now = time.monotonic()
        if now - told > _REPORT_S:
            told = now
            say(f"{servers.executed()} of {options.casts} casts executed")
        chosen = choose(now)
        if chosen:
            servers.restart(*chosen)
        servers.check()
        time.sleep(_POLL_S)


def _await_quiet(servers: Servers, expected: int) -> None:
    count, changed = servers.executed(), time.monotonic()
    # Wait even if enough casts were executed: a cast may be delivered a second time.
    while time.monotonic() - changed < (_SURE_S if count >= expected else _SETTLE_S):
        time.sleep(_POLL_S)
        before, count = count, servers.executed()
        if count != before:
            changed = time.monotonic()

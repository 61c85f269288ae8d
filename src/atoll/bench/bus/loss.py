"""`atoll bench bus-loss`: casts while servers are restarted and killed, and a count of those lost and of those executed twice."""

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
from atoll.bench.bus.processes import Template, Worker, end_all, share
from atoll.bench.bus.work import Tally
from atoll.bench.measure import Say

CLIENT_PROCESSES = 2
CLIENTS = 16
"""Threads that cast, in all client processes together."""

SERVERS = 3
"""Servers on the topic: while one is away, there are others."""

_SETTLE_S = 20.0
"""Seconds in which no cast was executed any more, after which what is missing is lost."""

_SURE_S = 3.0
"""The same, if none is missing."""

_REPORT_S = 20.0
_POLL_S = 0.05


@dataclass(frozen=True)
class Options:
    """How much to do.

    Attributes:
        casts: how many.
        name: of the transport, "zenoh" or "rabbit".
        journal: whether zenoh's servers keep on the disk what they acknowledged and have not begun.
        interval_s: seconds between two restarts, on average.
        kill: the share of restarts that are by SIGKILL, 0 to 1; the others are in good order.
        seed: of the times and the choices.
    """

    casts: int = 1_000_000
    name: str = "zenoh"
    journal: bool = True
    interval_s: float = 2.0
    kill: float = 0.5
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """What happened.

    Attributes:
        account: of the casts.
        restarts_term: restarts in good order.
        restarts_kill: restarts by SIGKILL.
        seconds: from the first cast until the last was acknowledged.
        errors: how many casts raised which exception.
        examples: a few of them in words.
    """

    account: Account
    restarts_term: int
    restarts_kill: int
    seconds: float
    errors: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, object]:
        """Plain data, the account's counts beside the others."""
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
        """What should not have been, in words; empty if all went well."""
        counts = {"lost": self.account.lost, "executed_twice": self.account.executed_twice}
        return [f"{name}: {count}" for name, count in counts.items() if count]


class Servers:
    """The servers of the experiment, and for each that goes another one of its name.

    Args:
        template: forks them.
        configuration: of the transport, a file.
        directory: of records.
        journals: where the transport's servers keep journals, if they do.
    """

    def __init__(self, template: Template, configuration: Path, directory: Path, journals: Path | None) -> None:
        self._template = template
        self._configuration = configuration
        self._directory = directory
        self._journals = journals
        self._made = 0
        self._running = [self._serve(index) for index in range(SERVERS)]
        self.restarts = {signal.SIGTERM: 0, signal.SIGKILL: 0}
        self.begun: set[int] = set()

    def restart(self, index: int, number: signal.Signals) -> None:
        """End one server by a signal, and have another one take its name."""
        self._running[index].end(number)
        if number == signal.SIGKILL and self._journals:
            # Before the successor comes, which removes them.
            self.begun |= evidence.begun(evidence.journals(self._journals, _name(index)))
        self._running[index] = self._serve(index)
        self.restarts[number] += 1

    def check(self) -> None:
        """Make sure that none has ended by itself.

        Raises:
            AtollError: `bench.failed`: one has.
        """
        for worker in self._running:
            worker.check()

    def records(self) -> list[Path]:
        """The files with the numbers of the casts that were executed."""
        return sorted(self._directory.glob("*.executed"))

    def executed(self) -> int:
        """How many casts were executed so far."""
        return sum(path.stat().st_size for path in self.records()) // NUMBER_BYTES

    def end(self) -> None:
        """End them all, in good order."""
        end_all(self._running)

    def _serve(self, index: int) -> Worker:
        self._made += 1
        worker = self._template.fork("recorder", f"recorder-{self._made}")
        record = self._directory / f"{worker.name}.executed"
        worker.ask("serve", configuration=str(self._configuration), name=_name(index), record=str(record))
        return worker


def _name(index: int) -> str:
    return f"server-{index}"


def plan(options: Options, now: float) -> Callable[[float], tuple[int, signal.Signals] | None]:
    """When to restart which server, and how.

    Args:
        options: see there.
        now: the time at the beginning.

    Returns:
        A function that, given the time, tells what to do now, if anything.
    """
    chance = random.Random(options.seed)  # noqa: S311 - reproducible, not secret
    due = now + chance.uniform(0.5, 1.5) * options.interval_s

    def choose(moment: float) -> tuple[int, signal.Signals] | None:
        nonlocal due
        if moment < due:
            return None
        due = moment + chance.uniform(0.5, 1.5) * options.interval_s
        return chance.randrange(SERVERS), signal.SIGKILL if chance.random() < options.kill else signal.SIGTERM

    return choose


def run(options: Options, root: Path, environment: Mapping[str, str], say: Say) -> Outcome:
    """Do the experiment.

    Args:
        options: how much.
        root: a directory of the experiment's own.
        environment: of the processes.
        say: told what is going on.

    Raises:
        AtollError: `bench.failed`: the experiment could not be done.
    """
    with opened(options.name, root / "bus", environment, journal=options.journal) as bus:
        return _run(bus, options, root, environment, say)


def _run(bus: Bus, options: Options, root: Path, environment: Mapping[str, str], say: Say) -> Outcome:
    configuration = root / "transport.conf"
    bus.transport.write(configuration)
    template = Template(root, environment)
    template.ask("load", modules=bus.transport.modules)
    servers = Servers(template, configuration, root, bus.transport.journals)
    clients = _clients(template, configuration)
    say(f"{options.casts} casts from {CLIENTS} clients to {SERVERS} servers that are restarted")
    begun, first = time.monotonic(), 0
    for worker, count in zip(clients, share(options.casts, CLIENT_PROCESSES), strict=True):
        worker.tell("cast_numbers", first=first, last=first + count, directory=str(root), name=worker.name)
        first += count
    _restart_until_done(clients, servers, options, say)
    total, ended = Tally(), begun
    for worker in clients:
        tally, moment = worker.answer()
        total.add(tally)
        ended = max(ended, moment)
    say("waiting for what is under way")
    _await_quiet(servers, total.sent)
    end_all(clients)
    servers.end()
    template.end()
    told = {kind: numbers_in(root.glob(f"*.{kind}")) for kind in ("acknowledged", "failed")}
    account = settle(options.casts, told["acknowledged"], told["failed"], numbers_in(servers.records()), servers.begun)
    restarts = servers.restarts
    return Outcome(account, restarts[signal.SIGTERM], restarts[signal.SIGKILL], ended - begun, dict(total.errors), total.examples)


def _clients(template: Template, configuration: Path) -> list[Worker]:
    workers = [template.fork("casters", f"casters-{index}") for index in range(CLIENT_PROCESSES)]
    for worker, count in zip(workers, share(CLIENTS, CLIENT_PROCESSES), strict=True):
        worker.ask("prepare", count=count)
        worker.ask("open", configuration=str(configuration))
    return workers


def _restart_until_done(clients: list[Worker], servers: Servers, options: Options, say: Say) -> None:
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
    # Even if as many were executed as should be, one may be on its way for the second time.
    while time.monotonic() - changed < (_SURE_S if count >= expected else _SETTLE_S):
        time.sleep(_POLL_S)
        before, count = count, servers.executed()
        if count != before:
            changed = time.monotonic()

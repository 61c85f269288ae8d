"""A cell that measures a message bus without OpenStack: clients and servers in the networks of emulated sites.

The bus is Atoll's own between the processes of the sites, or a RabbitMQ at the first site, to which all processes connect.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll.bench.bus import transport
from atoll.bench.bus.processes import Worker, WorkerTemplate, ask_all, end_all, share
from atoll.bench.bus.site_roles import RequestLoad, Sent
from atoll.bench.bus.transport import Transport
from atoll.bench.cell_sampler import SHARED, CellSampler, Receivers
from atoll.bench.cells import Records, Work
from atoll.bench.failure import failed
from atoll.bench.processes import memory_mb, processor_seconds
from atoll.bench.progress import Say
from atoll.bench.site_broker import SiteBroker
from atoll.bench.waiting import wait_until
from atoll.bench.workspace import workspace
from atoll.cloud import Cloud
from atoll.errors import AtollError
from atoll.wan.client import Wan, WanOptions

_PORTS = {"servers": 7447, "clients": 7448}
"""The ports at which the processes of a site listen, with Atoll's own bus."""

_LEAD_S = 1.0
"""Seconds from the command to all clients until they begin together."""

_PATIENCE_S = 120.0
_DRAIN_S = 30.0
"""Greatest number of seconds to wait for casts that are still being delivered."""


@dataclass(frozen=True)
class Member:
    """A process of a site, with the number of its clients or servers.

    Attributes:
        site: the name of the site.
        kind: "clients" or "servers".
        count: the number of clients or servers.
        worker: the process.
    """

    site: str
    kind: str
    count: int
    worker: Worker


def run_cell(work: Work, environment: Mapping[str, str], records: Records, say: Say) -> dict[str, Any]:
    """Start the processes of a bus in an emulated network, produce the load of a cell, and end all processes.

    Args:
        work: the work of the cell; its workload is `rpc`.
        environment: the environment of the processes.
        records: the receivers of the data.
        say: called with lines about the progress.

    Returns:
        `up_s`, the seconds until all processes were connected, `memory_mb`, their memory after the load, and the sampler's facts.

    Raises:
        AtollError: `bench.failed`: a process or the broker did not start, or a first call failed; `bench.requirement`: this user is not
            root.
    """
    begun = time.monotonic()
    with workspace(environment, say) as space, _network(space.root, work) as wan, _broker(space.root, wan, work, environment) as broker:
        template = WorkerTemplate(_made(space.root / "workers"), environment)
        stage = BusStage(work, wan, template, broker, space.root)
        stage.connect()
        up_s = round(time.monotonic() - begun, 3)
        try:
            return {"up_s": up_s, **stage.measure(records)}
        finally:
            end_all([member.worker for member in stage.members])
            template.end()


def _made(directory: Path) -> Path:
    directory.mkdir(mode=0o700)
    return directory


@contextmanager
def _network(root: Path, work: Work) -> Iterator[Wan]:
    network = Cloud.model_validate(work.cloud).network
    if network is None:
        raise failed("the sites of a bus have no topology: expected one, because they need a network")
    if os.geteuid() != 0:
        raise AtollError("bench.requirement", "clients in the networks of several sites need root", "run the experiment as root")
    wan = Wan.start(root, network, WanOptions(seed=work.seed, tied_to=os.getpid()))
    try:
        yield wan
    finally:
        wan.close()


@contextmanager
def _broker(root: Path, wan: Wan, work: Work, environment: Mapping[str, str]) -> Iterator[SiteBroker | None]:
    if not work.rabbitmq:
        yield None
        return
    broker = SiteBroker(root, work.rabbitmq, work.cloud, environment)
    try:
        broker.start_in(wan.namespace(work.rabbitmq).network)
        yield broker
    finally:
        broker.after_destroy()


class BusStage:
    """The processes of a bus in an emulated network.

    Args:
        work: the work of the cell.
        wan: the network.
        template: the process that forks the others.
        broker: the RabbitMQ; `None` with Atoll's own bus.
        root: the cell's own directory.
    """

    def __init__(self, work: Work, wan: Wan, template: WorkerTemplate, broker: SiteBroker | None, root: Path) -> None:
        self._work, self._wan, self._template, self._broker, self._root = work, wan, template, broker, root
        self._parameters = work.parameters
        self._sites = [str(site["name"]) for site in work.cloud["sites"]]
        self.members: list[Member] = []

    def connect(self) -> None:
        """Fork all processes in their networks, and wait until every client has had an answer.

        Raises:
            AtollError: `bench.failed`: a process did not start, or a client got no answer.
        """
        self._template.ask("load", modules=transport.MODULES["rabbit" if self._broker else "zenoh"])
        for kind in ("servers", "clients"):
            for site, count in zip(self._sites, share(int(self._parameters[kind]), len(self._sites)), strict=False):
                worker = self._template.fork(f"site-{kind}", f"{site}-{kind}")
                worker.ask("enter", network=self._wan.namespace(site).network)
                self.members.append(Member(site, kind, count, worker))
        for member in self.members:
            configuration = self._root / f"{member.worker.name}.conf"
            self._transport(member).write(configuration)
            if member.kind == "servers":
                names = [f"{member.site}-{number}" for number in range(member.count)]
                member.worker.ask("serve", configuration=str(configuration), topic=self._topic(member.site), names=names)
            else:
                member.worker.ask("prepare", count=member.count, payload_bytes=int(self._parameters["payload_bytes"]))
                topic, timeout_s = self._topic(member.site), float(self._parameters["timeout_s"])
                member.worker.ask("open", configuration=str(configuration), topic=topic, timeout_s=timeout_s)
        for client in self._of("clients"):
            client.worker.tell("greet")
        for client in self._of("clients"):
            client.worker.answer(10 * _PATIENCE_S)

    def measure(self, records: Records) -> dict[str, Any]:
        """Produce the load, record all requests and deliveries, and return the memory and the facts of the sampler."""
        seconds = float(self._parameters["seconds"])
        receivers = Receivers(records.usage, records.traffic)
        with CellSampler(self._processes, self._wan.counters, receivers) as watch:
            begin = time.monotonic() + _LEAD_S
            self._drive(begin)
            time.sleep(max(0.0, begin - time.monotonic()))
            watch.begin()
            used_s = self._processor_s()
            sent = {member.site: self._answer(member, seconds) for member in self._of("clients")}
            self._await_deliveries(sent)
            used_s = self._processor_s() - used_s
            elapsed_s = time.monotonic() - begin
            memory = memory_mb(self._pids())
        self._record(records, sent, begin)
        self._values(records, sent, used_s, memory)
        return {"memory_mb": memory, **watch.facts(elapsed_s)}

    # Connecting

    def _topic(self, site: str) -> str:
        return transport.TOPIC if self._parameters["targets"] == "one" else f"{transport.TOPIC}-{site}"

    def _transport(self, member: Member) -> Transport:
        if self._broker is not None:
            return transport.rabbit(self._broker.url)
        addresses = self._wan.addresses
        others = [f"{addresses[each.site]}:{_PORTS[each.kind]}" for each in self.members if each.site != member.site]
        listen = f"{addresses[member.site]}:{_PORTS[member.kind]}"
        return transport.between_sites(self._root / "sockets", member.site, listen, others)

    def _of(self, kind: str) -> list[Member]:
        return [member for member in self.members if member.kind == kind]

    # Measuring

    def _drive(self, begin: float) -> None:
        clients, total = self._of("clients"), sum(member.count for member in self._of("clients"))
        for number, member in enumerate(clients):
            rate = float(self._parameters["rate"]) * member.count / total
            seed = self._work.seed + number
            load = RequestLoad(
                str(self._parameters["operation"]), begin, float(self._parameters["seconds"]), rate, str(self._parameters["arrivals"]), seed
            )
            member.worker.tell("drive", load=load)

    def _answer(self, member: Member, seconds: float) -> list[Sent]:
        found: list[Sent] = member.worker.answer(_LEAD_S + seconds + 10 * float(self._parameters["timeout_s"]) + _PATIENCE_S)
        return found

    def _expected(self, sent: Mapping[str, Sequence[Sent]]) -> int:
        """Return the number of deliveries that acknowledged casts or fanouts must have."""
        if self._parameters["operation"] == "call":
            return 0
        listeners = dict.fromkeys(self._sites, 1)
        if self._parameters["operation"] == "fanout":
            servers = {member.site: member.count for member in self._of("servers")}
            every = sum(servers.values())
            listeners = {site: every if self._parameters["targets"] == "one" else servers.get(site, 0) for site in self._sites}
        return sum(listeners[site] * sum(not each.error for each in own) for site, own in sent.items())

    def _await_deliveries(self, sent: Mapping[str, Sequence[Sent]]) -> None:
        """Wait until all expected casts are delivered, at most `_DRAIN_S`; those that are missing then are a result."""
        expected, workers = self._expected(sent), [member.worker for member in self._of("servers")]
        until = time.monotonic() + _DRAIN_S
        wait_until(lambda: time.monotonic() > until or sum(ask_all(workers, "count")) >= expected, "casts are delivered", 2 * _DRAIN_S)

    def _record(self, records: Records, sent: Mapping[str, Sequence[Sent]], begin: float) -> None:
        operation = str(self._parameters["operation"])
        for site, own in sent.items():
            for each in own:
                records.sample(operation, site, each.intended_s, each.started_s, each.ended_s, not each.error, each.error)
        for member in self._of("servers"):
            for sent_at, received_at in member.worker.ask("received"):
                at_s = sent_at - begin
                records.sample("delivery", member.site, at_s, at_s, received_at - begin, True, "")

    def _values(self, records: Records, sent: Mapping[str, Sequence[Sent]], used_s: float, memory: float) -> None:
        every = [each for own in sent.values() for each in own]
        served, expected = sum(not each.error for each in every), self._expected(sent)
        records.value("offered rate", "requests/s", len(every) / float(self._parameters["seconds"]))
        ended_s = max((each.ended_s for each in every), default=0.0)
        records.value("served rate", "requests/s", served / max(ended_s, float(self._parameters["seconds"])))
        if served:
            records.value("processor time of 1,000 requests", "s", 1000 * used_s / served)
        records.value("memory of clients, servers and broker", "MB", memory)
        if expected:
            delivered = sum(ask_all([member.worker for member in self._of("servers")], "count"))
            records.value("delivered messages", "% of the expected ones", 100 * delivered / expected)

    def _processes(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {SHARED: [self._template.pid], **{site: [] for site in self._sites}}
        for member in self.members:
            found[member.site].append(member.worker.pid)
        if self._broker is not None:
            found[self._broker.site].extend(self._broker.pids())
        return found

    def _pids(self) -> list[int]:
        return [pid for pids in self._processes().values() for pid in pids]

    def _processor_s(self) -> float:
        return sum(processor_seconds(self._pids()).values())

"""A cell of a message bus: its processes are in their sites' networks, and every request and delivery is recorded."""

import os
from types import SimpleNamespace
from typing import ClassVar

import pytest

from atoll.bench import bus_cells
from atoll.bench.bus.site_roles import RequestLoad, Sent, SiteClients, SiteServers
from atoll.bench.bus.transport import between_sites
from atoll.bench.bus_cells import BusStage, Member
from atoll.bench.cells import Records, Work
from atoll.errors import AtollError

PARAMETERS = {
    "operation": "call", "targets": "one", "clients": 5, "servers": 3, "rate": 10.0, "arrivals": "constant", "seconds": 2.0,
    "payload_bytes": 100, "timeout_s": 5.0,
}  # fmt: skip
SITES = [{"name": "site-1"}, {"name": "site-2"}]


class MemoryWorker:
    """A worker that remembers its commands and answers with what the test gives it."""

    def __init__(self, name, answers=None):
        self.name, self.pid, self.told, self.answers = name, 0, [], answers or {}

    def ask(self, command, **arguments):
        self.tell(command, **arguments)
        return self.answers.get(command)

    def tell(self, command, **arguments):
        self.told.append((command, arguments))

    def answer(self, _timeout_s=0.0):
        return self.answers.get(self.told[-1][0])


class MemoryWan:
    """A network that knows the addresses of its sites."""

    addresses: ClassVar = {"site-1": "10.77.1.1", "site-2": "10.77.2.1"}

    def namespace(self, site):
        return SimpleNamespace(network=f"/net/{site}")


def stage(tmp_path, broker=None, **parameters):
    template = SimpleNamespace(pid=0, ask=lambda *_words, **_more: None, fork=lambda _role, name: MemoryWorker(name))
    work = Work({"sites": SITES}, "rpc", {**PARAMETERS, **parameters}, 7, system="bus")
    return BusStage(work, MemoryWan(), template, broker, tmp_path)


def test_processes_enter_the_network_of_their_site_before_anything_else(tmp_path):
    made = stage(tmp_path)
    made.connect()
    assert [(member.site, member.kind, member.count) for member in made.members] == [
        ("site-1", "servers", 2), ("site-2", "servers", 1), ("site-1", "clients", 3), ("site-2", "clients", 2),
    ]  # fmt: skip
    for member in made.members:
        assert member.worker.told[0] == ("enter", {"network": f"/net/{member.site}"})
    served = dict(made.members[0].worker.told)["serve"]
    assert served["names"] == ["site-1-0", "site-1-1"]
    assert served["topic"] == "bench"
    assert made.members[-1].worker.told[-1] == ("greet", {})
    text = (tmp_path / "site-2-clients.conf").read_text()
    assert "zenoh://10.77.1.1:7447,10.77.1.1:7448/" in text, "the processes of the other site"
    assert "listen = tcp/10.77.2.1:7448" in text


def test_each_site_may_have_a_topic_of_its_own(tmp_path):
    made = stage(tmp_path, targets="each")
    made.connect()
    assert {dict(member.worker.told).get("serve", {}).get("topic") for member in made.members} == {"bench-site-1", "bench-site-2", None}


def test_with_a_broker_all_processes_connect_to_it(tmp_path):
    made = stage(tmp_path, broker=SimpleNamespace(url="rabbit://me:secret@10.77.1.1:5672/", site="site-1", pids=list))
    made.connect()
    assert all("rabbit://me:secret@10.77.1.1:5672/" in path.read_text() for path in tmp_path.glob("*.conf"))
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("*.conf")} == {0o600}


def sent(count, failed=0):
    return [Sent(number, number / 10, number / 10, number / 10 + 0.01, "Timeout: no" if number < failed else "") for number in range(count)]


@pytest.mark.parametrize(
    ("operation", "targets", "expected"),
    [("call", "one", 0), ("cast", "one", 18), ("fanout", "one", 18 * 3), ("fanout", "each", 9 * 2 + 9)],
)
def test_the_number_of_deliveries(tmp_path, operation, targets, expected):
    made = stage(tmp_path, operation=operation, targets=targets)
    made.connect()
    assert made._expected({"site-1": sent(10, 1), "site-2": sent(10, 1)}) == expected


def test_all_requests_deliveries_and_numbers_are_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(bus_cells, "processor_seconds", lambda _pids: {})
    made = stage(tmp_path, operation="cast")
    answers = {"received": [(100.5, 100.6)], "count": 1}
    made.members = [
        Member("site-1", "servers", 1, MemoryWorker("servers", answers)),
        Member("site-1", "clients", 1, MemoryWorker("clients")),
    ]
    samples, values = [], {}
    records = Records(lambda *fields: samples.append(fields), value=lambda name, unit, value: values.update({name: (value, unit)}))
    made._record(records, {"site-1": sent(2, 1)}, 100.0)
    made._values(records, {"site-1": sent(2, 1)}, 0.5, 33.0)
    assert samples == [
        ("cast", "site-1", 0.0, 0.0, 0.01, False, "Timeout: no"),
        ("cast", "site-1", 0.1, 0.1, 0.11, True, ""),
        ("delivery", "site-1", 0.5, 0.5, pytest.approx(0.6), True, ""),
    ]
    assert values["offered rate"] == (1.0, "requests/s")
    assert values["served rate"] == (0.5, "requests/s")
    assert values["processor time of 1,000 requests"] == (500.0, "s")
    assert values["delivered messages"] == (100.0, "% of the expected ones")


def test_clients_divide_the_load_and_record_failures(monkeypatch):
    calls = []

    class Client:
        def call(self, _context, method, **_arguments):
            calls.append(method)
            if len(calls) == 2:
                raise TimeoutError("no answer")

    clients = SiteClients()
    clients.prepare(2, 10)
    clients._clients = [Client(), Client()]
    found = clients.drive(RequestLoad("call", 0.0, 2.0, 5.0, "constant", 1))
    assert [each.number for each in found] == list(range(10))
    assert [each.intended_s for each in found] == pytest.approx([number / 5 for number in range(10)])
    assert sorted(each.error for each in found)[-1] == "TimeoutError: no answer"
    assert sum(bool(each.error) for each in found) == 1
    assert all(each.started_s <= each.ended_s for each in found)


def test_casts_carry_the_time_of_their_sending():
    notes, told = SiteServers(), []

    class Client:
        def prepare(self, **options):
            told.append(options)
            return self

        def cast(self, context, method, **arguments):
            getattr(notes._notes, method)(context, **arguments)

    clients = SiteClients()
    clients.prepare(1, 10)
    clients._clients = [Client()]
    clients.drive(RequestLoad("fanout", 0.0, 1.0, 3.0, "constant", 1))
    assert told == 3 * [{"fanout": True}]
    assert notes.count() == 3
    assert all(sent_at <= received_at for sent_at, received_at in notes.received())


def test_a_site_of_its_own_has_no_others(tmp_path):
    made = between_sites(tmp_path, "site-1", "10.77.1.1:7447", [])
    assert made.url == "zenoh:///"


def test_only_root_has_networks(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    document = {"name": "x", "sites": [{"name": "site-1", "compute": "fake"}], "topology": {"preset": "mesh"}}
    with pytest.raises(AtollError) as raised, bus_cells._network(tmp_path, Work(document, "rpc", PARAMETERS, 1, system="bus")):
        pass
    assert raised.value.kind.code == "bench.requirement"

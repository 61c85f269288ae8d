"""The name server of guests, with real packets."""

import random
import socket
import threading
import time
from contextlib import suppress

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.services.neutron.ovn import resolver

KNOWN = {
    "web": "10.0.0.23",
    "web.atoll.internal": "10.0.0.23",
    "23.0.0.10.in-addr.arpa": "web.atoll.internal",
    "dual.atoll.internal": "10.0.0.24 fd00::24",
}


def query(name, kind="AAAA"):
    return dns.message.make_query(name, kind)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("web.atoll.internal.", dns.rcode.NOERROR),
        ("WEB.Atoll.Internal.", dns.rcode.NOERROR),
        ("web.", dns.rcode.NOERROR),
        ("23.0.0.10.in-addr.arpa.", dns.rcode.NOERROR),
        ("gone.atoll.internal.", dns.rcode.NXDOMAIN),
        ("web.atoll.internal.atoll.internal.", dns.rcode.NXDOMAIN),  # the search list has programs ask this
        ("atoll.internal.", dns.rcode.NXDOMAIN),
        ("gone.", dns.rcode.NXDOMAIN),
    ],
)
def test_queries_about_guests_are_answered_here(name, code):
    """A name without records of a type (NODATA) differs from one that does not exist (NXDOMAIN), which some clients apply to all types."""
    asked = query(name)
    reply = resolver.answer(asked, KNOWN, "atoll.internal")
    assert (reply.rcode(), reply.answer, reply.id, reply.question) == (code, [], asked.id, asked.question)


@pytest.mark.parametrize(
    ("name", "kind", "values"),
    [
        ("web.atoll.internal.", "A", ["10.0.0.23"]),
        ("WEB.", "A", ["10.0.0.23"]),
        ("dual.atoll.internal.", "A", ["10.0.0.24"]),
        ("dual.atoll.internal.", "AAAA", ["fd00::24"]),
        ("dual.atoll.internal.", "MX", []),
        ("23.0.0.10.in-addr.arpa.", "PTR", ["web.atoll.internal."]),
    ],
)
def test_queries_that_ovn_passes_on_needlessly_are_answered(name, kind, values):
    """OVN passes on all queries with extensions."""
    reply = resolver.answer(query(name, kind), KNOWN, "atoll.internal")
    assert reply.rcode() == dns.rcode.NOERROR
    assert [value.to_text() for rrset in reply.answer for value in rrset] == values
    dns.message.from_wire(reply.to_wire())


@pytest.mark.parametrize("kind", ["A", "TXT"])
@pytest.mark.parametrize("class_", [0, 3, 255])
def test_other_classes_are_refused(kind, class_):
    """Addresses cannot be encoded in other classes, which once left the guest without an answer."""
    asked = dns.message.make_query("web.atoll.internal.", kind, class_)
    reply = dns.message.from_wire(resolver.answer(asked, KNOWN, "atoll.internal").to_wire())
    assert (reply.rcode(), reply.answer) == (dns.rcode.REFUSED, [])


@pytest.mark.parametrize("name", ["example.org.", "notatoll.internal."])
def test_other_queries_are_forwarded(name):
    assert resolver.answer(query(name), KNOWN, "atoll.internal") is None


@pytest.fixture
def port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def servers(monkeypatch):
    monkeypatch.setattr(resolver, "within", lambda _namespace, work: work())
    return resolver.NameServers({"net": KNOWN}.__getitem__, "Atoll.Internal.", lambda _query: None)


HERE = -1


def test_guests_are_answered_as_long_as_it_is_open(servers, port):
    servers.open("net", HERE, ("127.0.0.1", port))
    servers.open("net", HERE, ("127.0.0.1", port))  # the agent says it with each port
    for _ in range(3):
        reply = dns.query.udp(query("web.atoll.internal"), "127.0.0.1", 5, port)
        assert reply.rcode() == dns.rcode.NOERROR
    servers.close("net")
    servers.close("net")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", port))


def test_nonsense_does_not_end_it(servers, port):
    servers.open("net", HERE, ("127.0.0.1", port))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for wire in (b"", b"\0", b"\xff" * 600, dns.message.Message().to_wire()):
            client.sendto(wire, ("127.0.0.1", port))
    assert dns.query.udp(query("web"), "127.0.0.1", 5, port).rcode() == dns.rcode.NOERROR
    servers.close("net")


def test_place_that_is_taken_leaves_nothing(servers, port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", port))
        with pytest.raises(OSError, match="in use"):
            servers.open("net", HERE, ("127.0.0.1", port))
    servers.open("net", HERE, ("127.0.0.1", port))
    servers.close("net")


def test_next_server_is_asked_when_one_does_not_answer(monkeypatch):
    asked = []

    def udp(message, server, timeout):
        asked.append(server)
        if server == "10.0.0.1":
            raise dns.exception.Timeout
        return message

    monkeypatch.setattr(resolver.dns.query, "udp", udp)
    ours = type("Ours", (), {"nameservers": ["10.0.0.1", "10.0.0.2"]})
    monkeypatch.setattr(resolver.dns.resolver, "get_default_resolver", ours)
    question = query("example.org.")
    assert resolver.ask_servers(question) is question
    assert asked == ["10.0.0.1", "10.0.0.2"]


def test_others_are_asked_and_their_answer_is_passed_on(monkeypatch, port):
    told = iter([True, False])
    monkeypatch.setattr(resolver, "within", lambda _namespace, work: work())
    servers = resolver.NameServers(
        {"net": KNOWN}.__getitem__, "atoll.internal", lambda each: dns.message.make_response(each) if next(told) else None
    )
    servers.open("net", HERE, ("127.0.0.1", port))
    for code in (dns.rcode.NOERROR, dns.rcode.SERVFAIL):
        assert dns.query.udp(query("example.org."), "127.0.0.1", 5, port).rcode() == code
    servers.close("net")


def test_answers_are_not_answered_and_an_error_of_ovn_ends_nothing(monkeypatch, port, caplog):
    """Two name servers that answer each other's answers would never stop."""
    failing = iter([True])

    def known(_network):
        if next(failing, False):
            raise RuntimeError("no database")
        return KNOWN

    monkeypatch.setattr(resolver, "within", lambda _namespace, work: work())
    servers = resolver.NameServers(known, "atoll.internal", lambda _query: None)
    servers.open("net", HERE, ("127.0.0.1", port))
    response = dns.message.make_response(query("web"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.5)
        client.sendto(response.to_wire(), ("127.0.0.1", port))
        client.sendto(query("web").to_wire(), ("127.0.0.1", port))
        with pytest.raises(TimeoutError):
            client.recv(512)
    assert "no database" in caplog.text
    assert dns.query.udp(query("web"), "127.0.0.1", 5, port).rcode() == dns.rcode.NOERROR
    servers.close("net")


class Slow:
    """Slow name servers that count queries."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def __call__(self, question):
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(self.seconds)
        with self._lock:
            self._now -= 1
        return dns.message.make_response(question)


@pytest.fixture
def two_networks(monkeypatch):
    """Name servers of two networks, and a function that asks one of them while the other's guest floods its own."""
    monkeypatch.setattr(resolver, "within", lambda _namespace, work: work())
    slow = Slow(0.5)
    servers = resolver.NameServers(lambda _network: KNOWN, "atoll.internal", slow)
    ports = {}
    for network in ("attacker", "victim"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            ports[network] = probe.getsockname()[1]
        servers.open(network, HERE, ("127.0.0.1", ports[network]))
    yield ports, slow
    for network in ports:
        servers.close(network)


def test_one_guest_does_not_hold_up_the_guests_of_other_networks(two_networks):
    ports, slow = two_networks
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
        for number in range(200):
            attacker.sendto(query(f"x{number}.example.com").to_wire(), ("127.0.0.1", ports["attacker"]))
        begun = time.monotonic()
        assert dns.query.udp(query("web"), "127.0.0.1", 5, ports["victim"]).rcode() == dns.rcode.NOERROR
        assert time.monotonic() - begun < slow.seconds, "the query must not wait for queries of the other network"
        assert dns.query.udp(query("example.org"), "127.0.0.1", 5, ports["victim"]).rcode() == dns.rcode.NOERROR
        assert time.monotonic() - begun < 4 * slow.seconds, "the query may wait for one or two others at most"
        assert slow.most <= resolver.LIMITS.at_work_per_guest + 1
        attacker.settimeout(5)
        codes = [dns.message.from_wire(attacker.recv(512)).rcode() for _ in range(150)]
    assert dns.rcode.SERVFAIL in codes, "a query without a place in the queue must be answered at once"


def test_one_guest_does_not_hold_up_another_one_of_its_network(two_networks):
    ports, slow = two_networks
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
        attacker.bind(("127.0.0.2", 0))
        for number in range(200):
            attacker.sendto(query(f"x{number}.example.com").to_wire(), ("127.0.0.1", ports["attacker"]))
        begun = time.monotonic()
        assert dns.query.udp(query("example.org"), "127.0.0.1", 5, ports["attacker"]).rcode() == dns.rcode.NOERROR
        assert time.monotonic() - begun < 3 * slow.seconds


def test_questions_that_wait_too_long_are_not_asked(monkeypatch, port):
    monkeypatch.setattr(resolver, "within", lambda _namespace, work: work())
    monkeypatch.setattr(resolver, "STALE_S", 0.2)
    asked = []

    def ask(question):
        asked.append(question.question[0].name.to_text())
        time.sleep(0.3)
        return dns.message.make_response(question)

    servers = resolver.NameServers(lambda _network: KNOWN, "atoll.internal", ask)
    servers.open("net", HERE, ("127.0.0.1", port))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        for number in range(resolver.LIMITS.at_work_per_guest + 4):
            client.sendto(query(f"x{number}.example.com").to_wire(), ("127.0.0.1", port))
        for _ in range(resolver.LIMITS.at_work_per_guest):
            client.recv(512)
    assert dns.query.udp(query("last.example.com"), "127.0.0.1", 5, port).rcode() == dns.rcode.NOERROR
    assert asked == [*(f"x{number}.example.com." for number in range(resolver.LIMITS.at_work_per_guest)), "last.example.com."]
    servers.close("net")


@pytest.fixture(scope="module")
def receiving():
    """Name servers with a socket that receives its own answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.setblocking(False)
        yield resolver.NameServers(lambda _network: KNOWN, "atoll.internal", lambda _query: None), listener


@settings(max_examples=300, deadline=None)
@given(wire=st.binary(max_size=300) | st.integers(0, 2**32).map(lambda seed: _damaged(random.Random(seed))))
def test_no_datagram_makes_more_than_an_error_of_dns(receiving, wire):
    """Whatever arrives, the reading thread survives, and each answer is a DNS message."""
    servers, listener = receiving
    with suppress(OSError, dns.exception.DNSException):
        servers._receive(listener, listener.getsockname(), wire, "net")
    with suppress(BlockingIOError):
        assert dns.message.from_wire(listener.recv(65535)).flags & dns.flags.QR


def _damaged(chance: random.Random) -> bytes:
    name = chance.choice(["web", "web.atoll.internal", "example.org", "23.0.0.10.in-addr.arpa", "x" * 63 + ".y"])
    kind = chance.choice(["A", "AAAA", "PTR", "ANY", "TXT"])
    wire = bytearray(dns.message.make_query(name, kind, use_edns=chance.choice([True, False])).to_wire())
    for _ in range(chance.randrange(4)):
        wire[chance.randrange(len(wire))] = chance.randrange(256)
    return bytes(wire[: chance.choice([len(wire), chance.randrange(len(wire))])])


def test_thread_that_reads_does_not_keep_the_process(servers):
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "name-servers")

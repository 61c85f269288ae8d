"""The name server of guests: what it answers, and that it does with real packets."""

import socket
import threading

import dns.message
import dns.query
import dns.rcode
import pytest
from upstream import check

from atoll.services.ovn import resolver

KNOWN = {
    "web": "10.0.0.23",
    "web.atoll.internal": "10.0.0.23",
    "23.0.0.10.in-addr.arpa": "web.atoll.internal",
    "dual.atoll.internal": "10.0.0.24 fd00::24",
}


def nobody(query):
    raise AssertionError(f"asked somebody else: {query}")


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
def test_what_is_about_guests_is_answered_here(name, code):
    """A name that there is has nothing of this kind, which is another answer than that there is no such name: some take that for both."""
    asked = query(name)
    reply = resolver.answer(asked, KNOWN, "atoll.internal", nobody)
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
def test_what_ovn_passes_on_though_it_has_the_answer_is_answered(name, kind, values):
    """As it does with any question that has extensions."""
    reply = resolver.answer(query(name, kind), KNOWN, "atoll.internal", nobody)
    assert reply.rcode() == dns.rcode.NOERROR
    assert [value.to_text() for rrset in reply.answer for value in rrset] == values
    dns.message.from_wire(reply.to_wire())


def test_what_is_not_about_guests_is_asked_of_others():
    told = dns.message.make_response(query("example.org."))
    assert resolver.answer(query("example.org."), KNOWN, "atoll.internal", lambda _query: told) is told
    assert resolver.answer(query("notatoll.internal."), KNOWN, "atoll.internal", lambda _query: told) is told
    assert resolver.answer(query("example.org."), KNOWN, "atoll.internal", lambda _query: None).rcode() == dns.rcode.SERVFAIL


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


def test_thread_that_reads_does_not_keep_the_process(servers):
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "name-servers")


def test_upstream_is_what_ours_was_written_against():
    base = "neutron/agent/metadata/driver_base.py"
    check(
        "neutron",
        {
            (base, "MetadataDriverBase.spawn_monitored_metadata_proxy"): "53b85e00",
            (base, "MetadataDriverBase.destroy_monitored_metadata_proxy"): "b7247ffe",
            ("neutron/agent/ovn/metadata/agent.py", "MetadataAgent.provision_datapath"): "119e8022",
            ("neutron/agent/ovn/metadata/agent.py", "MetadataAgent.teardown_datapath"): "ec50998a",
            ("neutron/common/ovn/utils.py", "get_dhcp_dns_servers"): "8afe61aa",
        },
        "services/ovn/agent.py",
    )

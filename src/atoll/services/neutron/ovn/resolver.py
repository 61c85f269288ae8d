"""The name server of guests, beside each network's metadata proxy and at the same address.

OVN itself answers a query for a guest's name, whatever server the query was sent to, if it has the answer. OVN 23.03 (Debian 12's) passes
on all other queries, including those for the IPv6 address of a guest that has none, and those with extensions (EDNS): these need a server.
By default, Neutron names this machine's name servers, which guests cannot reach in most networks. The C library asks for both addresses at
the same time; if one answer does not arrive, it reports the name as unknown, or waits for seconds.

The thread that reads queries answers those about guests itself, and never waits. Other threads forward all other queries to this machine's
name servers, from the site's own network. A network, and within it a guest, has a bounded share of those threads and of the queue before
them, so that no guest's queries delay another's. Newer versions of OVN answer for guests completely (`ovn-owned`).
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import dns.exception
import dns.flags
import dns.inet
import dns.message
import dns.opcode
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import dns.rrset

from atoll.services.neutron.ovn import layout
from atoll.services.neutron.ovn.fair_queue import FairQueue, QueueLimits, Work
from atoll.wan.isolation import within

PORT = 53

PATIENCE_S = 2.0
"""Seconds to wait for each of this machine's name servers; clients repeat a query after five seconds."""

LIMITS = QueueLimits()
"""Bounds on the numbers of queries that are being forwarded, and of queries that wait to be forwarded."""

STALE_S = 4.0
"""Seconds after which a queued query is dropped: its client has repeated it, or has given up."""

_IDLE_S = 30.0
"""Seconds after which an idle forwarding thread ends."""

TTL_S = 60
"""Seconds for which clients may cache an answer about guests."""

_LARGEST = 65535

LOG = logging.getLogger(__name__)

Names = Mapping[str, str]
"""OVN's `records` of a network (ovn-nb(5)): addresses by name, and names by in-addr.arpa; in lower case, without the last dot."""

Ask = Callable[[dns.message.Message], dns.message.Message | None]


def answer(query: dns.message.Message, known: Names, domain: str) -> dns.message.Message | None:
    """Return the answer to a query that OVN passed on, from OVN's records; a refusal for a query of a class other than IN.

    Args:
        query: a message with one question.
        known: OVN's records of the guest's network.
        domain: the domain of all guests' names, in lower case, without the last dot.

    Returns:
        The answer; `None` if the query must be forwarded.
    """
    question = query.question[0]
    if question.rdclass != dns.rdataclass.IN:
        return _reply(query, dns.rcode.REFUSED)
    name = question.name.to_text(omit_final_dot=True).lower()
    if name in known:
        return _reply(query, dns.rcode.NOERROR, _of_kind(question.rdtype, known[name].split()))
    if "." not in name or name == domain or name.endswith(f".{domain}"):
        return _reply(query, dns.rcode.NXDOMAIN)
    return None


def _of_kind(kind: dns.rdatatype.RdataType, values: Sequence[str]) -> list[str]:
    """Return the values from OVN that answer a query of a type: addresses, or the name of an address."""
    match kind:
        case dns.rdatatype.A:
            return [value for value in values if dns.inet.is_address(value) and "." in value]
        case dns.rdatatype.AAAA:
            return [value for value in values if dns.inet.is_address(value) and ":" in value]
        case dns.rdatatype.PTR:
            return [f"{value.rstrip('.')}." for value in values if not dns.inet.is_address(value)]
        case _:
            return []


def _reply(query: dns.message.Message, code: dns.rcode.Rcode, values: Sequence[str] = ()) -> dns.message.Message:
    reply = dns.message.make_response(query, recursion_available=True)
    reply.set_rcode(code)
    if values:
        question = query.question[0]
        reply.answer.append(dns.rrset.from_text_list(question.name, TTL_S, question.rdclass, question.rdtype, values))
    return reply


def ask_servers(query: dns.message.Message) -> dns.message.Message | None:
    """Ask this machine's name servers in turn; return `None` if none of them answers."""
    with suppress(dns.resolver.NoResolverConfiguration):
        for server in dns.resolver.get_default_resolver().nameservers:
            with suppress(OSError, dns.exception.DNSException):
                return dns.query.udp(query, str(server), timeout=PATIENCE_S)
    return None


class _Question(NamedTuple):
    """A query to forward.

    Attributes:
        listener: the socket that received it.
        client: the guest's address and port.
        query: the message.
        came: the time of its arrival (`time.monotonic`).
    """

    listener: socket.socket
    client: Any
    query: dns.message.Message
    came: float


class NameServers:
    """The name servers of all networks that have guests here: a socket for each network, one reading thread, and forwarding threads.

    Args:
        known: returns OVN's records of a network, by the network's id.
        domain: the domain of all guests' names.
        ask: forwards a query.
        limits: the bounds on forwarded queries.
    """

    def __init__(self, known: Callable[[str], Names], domain: str, ask: Ask | None = None, limits: QueueLimits = LIMITS) -> None:
        self._known = known
        self._domain = domain.strip(".").lower()
        self._ask = ask or ask_servers
        self._limits = limits
        self._sockets: dict[str, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._questions: FairQueue[_Question] = FairQueue(limits)
        self._askers = 0
        self._idle = 0
        self._askers_lock = threading.Lock()
        threading.Thread(target=self._serve, name="name-servers", daemon=True).start()

    def open(self, network: str, namespace: int, place: tuple[str, int] = (layout.METADATA_ADDRESS, PORT)) -> None:
        """Start answering the guests of a network, unless a socket for the network is open already.

        Args:
            network: the network's id.
            namespace: a descriptor of a network namespace that is connected to the network.
            place: address and port to listen at.

        Raises:
            OSError: the address does not exist, or is in use.
        """
        if network in self._sockets:
            return
        listener = within(namespace, partial(_listen, place))
        self._sockets[network] = listener
        self._selector.register(listener, selectors.EVENT_READ, network)

    def close(self, network: str) -> None:
        """Stop answering the guests of a network."""
        listener = self._sockets.pop(network, None)
        if listener is not None:
            self._selector.unregister(listener)
            listener.close()

    def _serve(self) -> None:
        """Read one query of each network in turn, so that no network has to wait for the many queries of another."""
        while True:
            for key, _events in self._selector.select():
                assert isinstance(key.fileobj, socket.socket)
                try:
                    wire, client = key.fileobj.recvfrom(_LARGEST)
                    self._receive(key.fileobj, client, wire, key.data)
                except (OSError, dns.exception.DNSException):  # the socket was just closed, or the datagram is no query
                    continue
                except Exception:
                    LOG.exception("a query from a guest of network %s was not answered", key.data)

    def _receive(self, listener: socket.socket, client: Any, wire: bytes, network: str) -> None:
        query = dns.message.from_wire(wire)
        if query.flags & dns.flags.QR or query.opcode() != dns.opcode.QUERY or len(query.question) != 1:
            return
        reply = answer(query, self._known(network), self._domain)
        if reply is not None:
            listener.sendto(reply.to_wire(), client)
            return
        refused = self._questions.put(Work(network, client[0], _Question(listener, client, query, time.monotonic())))
        if refused is not None:
            _send(refused.item, None)
        self._have_asker()

    def _have_asker(self) -> None:
        """Start one more forwarding thread, if none is idle and the limit allows it."""
        with self._askers_lock:
            if self._idle or self._askers >= self._limits.at_work:
                return
            self._askers += 1
            self._idle += 1
        threading.Thread(target=self._ask_others, name="name-server", daemon=True).start()

    def _ask_others(self) -> None:
        while True:
            work = self._questions.take(_IDLE_S)
            with self._askers_lock:
                if work is None and len(self._questions):
                    continue
                self._idle -= 1
                if work is None:
                    self._askers -= 1
                    return
            if len(self._questions):
                self._have_asker()
            try:
                question = work.item
                if time.monotonic() - question.came < STALE_S:
                    _send(question, self._ask(question.query))
            except Exception:
                LOG.exception("a query from a guest of network %s was not answered", work.network)
            finally:
                with self._askers_lock:
                    self._idle += 1
                self._questions.done(work)


def _send(question: _Question, reply: dns.message.Message | None) -> None:
    """Send the answer of a forwarded query; `None` sends nothing."""
    with suppress(OSError, dns.exception.DNSException):  # the network's name server was closed, or the answer cannot be encoded
        reply = reply or _reply(question.query, dns.rcode.SERVFAIL)
        question.listener.sendto(reply.to_wire(), question.client)


def _listen(place: tuple[str, int]) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        listener.setblocking(False)
        listener.bind(place)
    except OSError:
        listener.close()
        raise
    return listener


def names_in_ovn(network: str) -> dict[str, str]:
    """Return OVN's records of a network: the names of Neutron's ports."""
    from neutron.common.ovn import utils
    from neutron_lib.plugins import directory

    northbound = directory.get_plugin().mechanism_manager.mech_drivers["ovn"].obj.nb_ovn
    rows = northbound.db_find("DNS", ("external_ids", "=", {"ls_name": utils.ovn_name(network)})).execute(check_error=True)
    return {name: values for row in rows for name, values in row["records"].items()}

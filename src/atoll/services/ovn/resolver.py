"""The name server of guests, beside each network's proxy for metadata and at the same address.

OVN answers a question for a guest's name by itself, whomever it was sent to, if it has the answer. OVN 23.03 (Debian 12's) lets all others
pass, also for the IPv6 address of a guest that has none, and all that have extensions (EDNS): so they need somebody who answers them.
Neutron's default are the name servers of this machine, which guests can't reach in most networks. The C library asks for both addresses at
once; where one answer does not come, it takes the name for unknown, or waits for seconds. Here such questions are answered at once, by the
thread that reads them, which waits for nothing. What is not about guests is asked of this machine's name servers, from the site's own
network, by other threads; a network, and within it a guest, has a share of those threads and of the queue before them, so that no guest's
questions hold up another's. Newer versions of OVN do the first by themselves (`ovn-owned`).
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

from atoll.services.ovn import layout
from atoll.services.ovn.fair_queue import FairQueue, Limits, Work
from atoll.wan.isolation import within

PORT = 53

PATIENCE_S = 2.0
"""How long one of this machine's name servers may take. Clients ask again after five seconds."""

LIMITS = Limits()
"""Bounds of the questions that are being asked of others, and that wait to be."""

STALE_S = 4.0
"""Seconds after which a question that still waits is dropped: its client asks again, or has given up."""

_IDLE_S = 30.0
"""Seconds after which a thread that has nothing to ask ends."""

TTL_S = 60
"""How long an answer of ours is good."""

_LARGEST = 65535

LOG = logging.getLogger(__name__)

Names = Mapping[str, str]
"""What OVN knows of a network (`records` of ovn-nb(5)): addresses by name, names by in-addr.arpa; in lower case, without the last dot."""

Ask = Callable[[dns.message.Message], dns.message.Message | None]


def answer(query: dns.message.Message, known: Names, domain: str) -> dns.message.Message | None:
    """Answer a question that OVN left, from what is known here. Questions of other classes than the Internet's are refused.

    Args:
        query: with one question.
        known: what OVN knows of the guest's network.
        domain: of all guests' names, in lower case, without the last dot.

    Returns:
        `None` if the question is for others.
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
    """Those of OVN's values, addresses or for an address a name, that answer a question of a kind."""
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
    """Ask this machine's name servers, one after the other; None if none of them answers."""
    with suppress(dns.resolver.NoResolverConfiguration):
        for server in dns.resolver.get_default_resolver().nameservers:
            with suppress(OSError, dns.exception.DNSException):
                return dns.query.udp(query, str(server), timeout=PATIENCE_S)
    return None


class _Question(NamedTuple):
    """A question for others.

    Attributes:
        listener: the socket by which it came.
        client: the guest's address and port.
        query: the message.
        came: when (`time.monotonic`).
    """

    listener: socket.socket
    client: Any
    query: dns.message.Message
    came: float


class NameServers:
    """The name servers of all networks that have guests here: a socket each, one thread that reads them, and threads that ask others.

    Args:
        known: what OVN knows of a network, by the network's id.
        domain: of all guests' names.
        ask: asks somebody else.
        limits: of the questions for others.
    """

    def __init__(self, known: Callable[[str], Names], domain: str, ask: Ask | None = None, limits: Limits = LIMITS) -> None:
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
        """Answer a network's guests, if that is not done yet.

        Args:
            network: its id.
            namespace: a descriptor of the network namespace that is at its wire.
            place: address and port.

        Raises:
            OSError: the place is not there, or taken.
        """
        if network in self._sockets:
            return
        listener = within(namespace, partial(_listen, place))
        self._sockets[network] = listener
        self._selector.register(listener, selectors.EVENT_READ, network)

    def close(self, network: str) -> None:
        """No longer answer a network's guests."""
        listener = self._sockets.pop(network, None)
        if listener is not None:
            self._selector.unregister(listener)
            listener.close()

    def _serve(self) -> None:
        """Read one question of each network in turn, so that none has to wait for the many of another."""
        while True:
            for key, _events in self._selector.select():
                assert isinstance(key.fileobj, socket.socket)
                try:
                    wire, client = key.fileobj.recvfrom(_LARGEST)
                    self._receive(key.fileobj, client, wire, key.data)
                except (OSError, dns.exception.DNSException):  # closed just now, or no question
                    continue
                except Exception:
                    LOG.exception("a question of a guest of network %s was not answered", key.data)

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
        """Start one more thread that asks, if none is idle and there may be more."""
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
                LOG.exception("a question of a guest of network %s was not answered", work.network)
            finally:
                with self._askers_lock:
                    self._idle += 1
                self._questions.done(work)


def _send(question: _Question, reply: dns.message.Message | None) -> None:
    """Answer a question that others were to answer; `None` is no answer."""
    with suppress(OSError, dns.exception.DNSException):  # the network's name server was closed, or the answer can't be written
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
    """What OVN knows of a network: the names of Neutron's ports."""
    from neutron.common.ovn import utils
    from neutron_lib.plugins import directory

    northbound = directory.get_plugin().mechanism_manager.mech_drivers["ovn"].obj.nb_ovn
    rows = northbound.db_find("DNS", ("external_ids", "=", {"ls_name": utils.ovn_name(network)})).execute(check_error=True)
    return {name: values for row in rows for name, values in row["records"].items()}

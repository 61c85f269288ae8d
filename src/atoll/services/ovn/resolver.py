"""The name server of guests, beside each network's proxy for metadata and at the same address.

OVN answers a question for a guest's name by itself, whomever it was sent to, if it has the answer. OVN 23.03 (Debian 12's) lets all others
pass, also for the IPv6 address of a guest that has none, and all that have extensions (EDNS): so they need somebody who answers them.
Neutron's default are the name servers of this machine, which guests can't reach in most networks. The C library asks for both addresses at
once; where one answer does not come, it takes the name for unknown, or waits for seconds. Here such questions are answered at once. What is
not about guests is asked of this machine's name servers, from the site's own network. Newer versions of OVN do the first by themselves
(`ovn-owned`).
"""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import dns.exception
import dns.inet
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.rrset

from atoll.services.ovn import layout
from atoll.wan.isolation import within

PORT = 53

PATIENCE_S = 2.0
"""How long one of this machine's name servers may take. Clients ask again after five seconds."""

THREADS = 4
"""How many questions are asked of others at once."""

TTL_S = 60
"""How long an answer of ours is good."""

_LARGEST = 65535

Names = Mapping[str, str]
"""What OVN knows of a network (`records` of ovn-nb(5)): addresses by name, names by in-addr.arpa; in lower case, without the last dot."""

Ask = Callable[[dns.message.Message], dns.message.Message | None]


def answer(query: dns.message.Message, known: Names, domain: str, ask: Ask) -> dns.message.Message:
    """What a guest is told that OVN did not answer.

    Args:
        query: with one question.
        known: what OVN knows of the guest's network.
        domain: of all guests' names, in lower case, without the last dot.
        ask: asks somebody else; None is no answer.
    """
    question = query.question[0]
    name = question.name.to_text(omit_final_dot=True).lower()
    if name in known:
        return _reply(query, dns.rcode.NOERROR, _of_kind(question.rdtype, known[name].split()))
    if "." not in name or name == domain or name.endswith(f".{domain}"):
        return _reply(query, dns.rcode.NXDOMAIN)
    return ask(query) or _reply(query, dns.rcode.SERVFAIL)


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


class NameServers:
    """The name servers of all networks that have guests here: a socket each, and one thread that reads them.

    Args:
        known: what OVN knows of a network, by the network's id.
        domain: of all guests' names.
        ask: asks somebody else.
    """

    def __init__(self, known: Callable[[str], Names], domain: str, ask: Ask = ask_servers) -> None:
        self._known = known
        self._domain = domain.strip(".").lower()
        self._ask = ask
        self._sockets: dict[str, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="name-server")
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
        while True:
            for key, _events in self._selector.select():
                assert isinstance(key.fileobj, socket.socket)
                with suppress(OSError):  # closed just now
                    wire, client = key.fileobj.recvfrom(_LARGEST)
                    self._pool.submit(self._answer, key.fileobj, client, wire, key.data)

    def _answer(self, listener: socket.socket, client: Any, wire: bytes, network: str) -> None:
        with suppress(OSError, dns.exception.DNSException):  # no question, or nobody to answer any more
            query = dns.message.from_wire(wire)
            if len(query.question) == 1:
                listener.sendto(answer(query, self._known(network), self._domain, self._ask).to_wire(), client)


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

"""The name server of guests, beside each network's proxy for metadata and at the same address.

OVN answers a question for a guest's name by itself, whomever it was sent to, if it has the answer. OVN 23.03 (Debian 12's) lets all others
pass, also for the IPv6 address of a guest that has none: so they need somebody who answers them. Neutron's default are the name servers of
this machine, which guests can't reach in most networks. The C library asks for both addresses at once; where one answer does not come, it
takes the name for unknown, or waits for seconds. Here such a question is answered at once: nothing of that kind (RFC 2308). What is not
about guests is asked of this machine's name servers, from the site's own network. Newer versions of OVN do the first by themselves
(`ovn-owned`).
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.resolver

from atoll.namespaces import CLONE_NEWNET, set_namespace
from atoll.services.ovn import layout

PORT = 53

PATIENCE_S = 2.0
"""How long one of this machine's name servers may take. Clients ask again after five seconds."""

THREADS = 4
"""How many questions are asked of others at once."""

NAMESPACES = Path("/run/netns")

_SO_NO_CHECK = 11
"""socket(7) of Linux: no checksum, which UDP over IPv4 does without. A switch in user space does not get a good one from here."""

_LARGEST = 65535

LOG = logging.getLogger(__name__)

Ask = Callable[[dns.message.Message], dns.message.Message | None]


def answer(query: dns.message.Message, known: Collection[str], domain: str, ask: Ask) -> dns.message.Message:
    """What a guest is told that OVN did not answer.

    Args:
        query: with one question.
        known: the names that OVN has addresses for, in lower case, without the last dot; and those under in-addr.arpa.
        domain: of all guests' names, likewise.
        ask: asks somebody else; None is no answer.
    """
    name = query.question[0].name.to_text(omit_final_dot=True).lower()
    if name in known:
        return _nothing(query, dns.rcode.NOERROR)
    if "." not in name or name == domain or name.endswith(f".{domain}"):
        return _nothing(query, dns.rcode.NXDOMAIN)
    return ask(query) or _nothing(query, dns.rcode.SERVFAIL)


def _nothing(query: dns.message.Message, code: dns.rcode.Rcode) -> dns.message.Message:
    reply = dns.message.make_response(query, recursion_available=True)
    reply.set_rcode(code)
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
        known: the names that OVN has for a network, by the network's id.
        domain: of all guests' names.
        ask: asks somebody else.
    """

    def __init__(self, known: Callable[[str], Collection[str]], domain: str, ask: Ask = ask_servers) -> None:
        self._known = known
        self._domain = domain.strip(".").lower()
        self._ask = ask
        self._sockets: dict[str, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="name-server")
        threading.Thread(target=self._serve, name="name-servers", daemon=True).start()

    def open(self, network: str, namespace: Path, place: tuple[str, int] = (layout.METADATA_ADDRESS, PORT)) -> None:
        """Answer a network's guests, if that is not done yet.

        Args:
            network: its id.
            namespace: the network namespace that is at its wire.
            place: address and port.

        Raises:
            OSError: the place is not there, or taken.
        """
        if network in self._sockets:
            return
        with ThreadPoolExecutor(1) as elsewhere:  # a thread that stays in the namespace, and ends there
            listener = elsewhere.submit(_listen, namespace, place).result()
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
                    self._pool.submit(self._reply, key.fileobj, client, wire, key.data)

    def _reply(self, listener: socket.socket, client: Any, wire: bytes, network: str) -> None:
        with suppress(OSError, dns.exception.DNSException):  # no question, or nobody to answer any more
            query = dns.message.from_wire(wire)
            if len(query.question) == 1:
                listener.sendto(answer(query, self._known(network), self._domain, self._ask).to_wire(), client)


def _listen(namespace: Path, place: tuple[str, int]) -> socket.socket:
    set_namespace(str(namespace), CLONE_NEWNET)
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_NO_CHECK, 1)
        listener.setblocking(False)
        listener.bind(place)
    except OSError:
        listener.close()
        raise
    return listener


def names_in_ovn(network: str) -> set[str]:
    """The names that OVN has for a network: those of Neutron's ports."""
    from neutron.common.ovn import utils
    from neutron_lib.plugins import directory

    northbound = directory.get_plugin().mechanism_manager.mech_drivers["ovn"].obj.nb_ovn
    rows = northbound.db_find("DNS", ("external_ids", "=", {"ls_name": utils.ovn_name(network)})).execute(check_error=True)
    return {name for row in rows for name in row["records"]}


def install() -> None:
    """Have each network's proxy for metadata come with a name server, and go with it."""
    from neutron.agent.ovn.metadata import driver
    from oslo_config import cfg

    servers = NameServers(names_in_ovn, cfg.CONF.dns_domain)

    class MetadataDriver(driver.MetadataDriver):  # type: ignore[misc]
        """Replaces upstream's: the agent calls it once a network's namespace has its addresses, and before that is taken away."""

        @classmethod
        def spawn_monitored_metadata_proxy(cls, monitor: Any, ns_name: str, *arguments: Any, network_id: str, **more: Any) -> None:
            super().spawn_monitored_metadata_proxy(monitor, ns_name, *arguments, network_id=network_id, **more)
            try:
                servers.open(network_id, NAMESPACES / ns_name)
            except OSError as error:
                LOG.warning("guests of network %s have no name server: %s", network_id, error)

        @classmethod
        def destroy_monitored_metadata_proxy(cls, monitor: Any, uuid: str, *arguments: Any) -> None:
            servers.close(uuid)
            super().destroy_monitored_metadata_proxy(monitor, uuid, *arguments)

    driver.MetadataDriver = MetadataDriver

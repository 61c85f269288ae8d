"""The fabric of a running WAN: the topology, the emulator, and the changes since the WAN's start."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from atoll.cloud.network import Ends, Network
from atoll.errors import AtollError
from atoll.namespaces import Namespace
from atoll.wan import netem
from atoll.wan.addresses import Addresses
from atoll.wan.emulator import REFUSALS, Emulator
from atoll.wan.kernel import KernelEmulator
from atoll.wan.links import Links, check, spell
from atoll.wan.userspace import UserspaceEmulator

CHOICES = ("auto", "netem", "userspace")

_NO_NETEM = "this kernel has no netem, or no veth pairs"


def choose(wanted: str, addresses: Addresses, seed: int | None = None) -> tuple[Emulator, str]:
    """Return an emulator, and the reason for the choice.

    Args:
        wanted: one of `CHOICES`; "auto" means netem if the kernel has it, otherwise the userspace emulator.
        addresses: the addresses of the nodes.
        seed: seed of the random numbers for loss and jitter; netem ignores it.

    Raises:
        AtollError: `wan.unavailable`: no emulator works on this machine; `wan.invalid`: there is no such emulator.
    """
    if wanted not in CHOICES:
        raise AtollError("wan.invalid", f"no emulator is called {wanted}: expected one of {', '.join(CHOICES)}")
    if wanted == "userspace":
        return UserspaceEmulator(addresses, seed), "asked for"
    if netem.available():
        return KernelEmulator(addresses), "the kernel has netem" if wanted == "auto" else "asked for"
    if wanted == "netem":
        raise AtollError("wan.unavailable", _NO_NETEM, "load them (`modprobe --all sch_netem veth`), or use the userspace emulator")
    return UserspaceEmulator(addresses, seed), _NO_NETEM


class Fabric:
    """The nodes and links of a WAN: applies topologies, changes, cuts and heals to an emulator.

    Args:
        network: the topology.
        emulator: one of `CHOICES`.
        rerouting: see `Links`.
        seed: see `choose`.

    Raises:
        AtollError: `wan.unavailable`, `wan.invalid`; `wan.failed` if the kernel refuses an operation.
    """

    def __init__(self, network: Network, emulator: str = "auto", *, rerouting: bool = False, seed: int | None = None) -> None:
        self.addresses = Addresses()
        self.links = Links(Network(()), rerouting=rerouting)
        self._emulator, self.reason = choose(emulator, self.addresses, seed)
        try:
            self.apply(network)
        except BaseException:
            self.close()
            raise

    @property
    def emulator(self) -> str:
        """The name of the emulator."""
        return self._emulator.name

    def apply(self, network: Network) -> None:
        """Adopt another topology, without disturbing the links that both have in common.

        Raises:
            AtollError: `wan.unavailable`: too many sites; `wan.failed`.
        """
        old = self.links.network
        before = {ends: (self.links.wire(ends), self.links.up(ends)) for ends in old.wires}
        gone = {node.name for node in old.nodes} - {node.name for node in network.nodes}
        new = [node for node in network.nodes if node not in old.nodes]
        self.links.follow(network)
        try:
            for ends in before.keys() - network.wires.keys():
                self._emulator.unwire(ends)
            for name in sorted(gone):
                self._emulator.remove(name)
            self.addresses.assign(network.nodes)
            for node in new:
                if self._emulator.network(node.name) is None:  # the node is new; otherwise only its location has changed
                    self._emulator.add(node)
            self._lay(ends for ends in network.wires if before.get(ends) != (self.links.wire(ends), self.links.up(ends)))
            self._emulator.route(self.links.hops())
        except REFUSALS as error:
            raise AtollError("wan.failed", f"the kernel refuses to build the WAN: {error}") from error

    def set(self, name: str, changes: Mapping[str, Any], *, one_way: bool = False) -> None:
        """Change the properties of a link; see `Links.set`."""
        self._follow(self.links.set(name, check(changes), one_way=one_way))

    def cut(self, name: str) -> None:
        """Cut a link, or all links of a site; see `Links.cut`."""
        self._follow(self.links.cut(name))

    def heal(self, name: str | None = None) -> None:
        """Undo cuts; see `Links.heal`."""
        self._follow(self.links.heal(name))

    def describe(self) -> dict[str, Any]:
        """Return the emulator, the addresses, the links with their present properties, the cuts, and the resulting round trips."""
        links = self.links
        return {
            "emulator": self.emulator,
            "reason": self.reason,
            "rerouting": links.rerouting,
            "addresses": {name: address for name, address in self.addresses.all().items() if name in links.network.sites},
            "wires": [{"from": ends[0], "to": ends[1], "up": links.up(ends), **links.wire(ends).to_json()} for ends in links.network.wires],
            "cuts": links.cuts,
            "asked": links.asked(),
        }

    def counters(self) -> dict[str, dict[str, int]]:
        """Return the traffic of each direction of each link, by the names of its ends in that direction."""
        counted = self._emulator.counters()
        return {spell(ends): counted[ends].to_json() for ends in self.links.network.wires}

    def network(self, site: str) -> int:
        """Return the descriptor of a site's network namespace.

        Raises:
            AtollError: `wan.unknown`: the WAN has no such site.
        """
        descriptor = self._emulator.network(site) if site in self.links.network.sites else None
        if descriptor is None:
            raise AtollError("wan.unknown", f"the WAN has no site {site}: expected one of {', '.join(self.links.network.sites)}")
        return descriptor

    def namespace(self, site: str, *, rootless: bool) -> Namespace:
        """Return the network namespace of a site, for another process to enter.

        Args:
            site: the site's name.
            rootless: whether this process is in a user namespace of its own.

        Raises:
            AtollError: `wan.unknown`: the WAN has no such site.
        """
        own = f"/proc/{os.getpid()}"
        return Namespace(f"{own}/fd/{self.network(site)}", f"{own}/ns/user" if rootless else None)

    def check(self) -> None:
        """Raise OSError if the emulator has stopped moving packets."""
        self._emulator.check()

    def close(self) -> None:
        """Remove everything; a process that still runs in a site's network keeps that network, without links."""
        self._emulator.close()

    def _follow(self, wires: Iterable[Ends]) -> None:
        try:
            self._lay(wires)
            if self.links.rerouting:
                self._emulator.route(self.links.hops())
        except REFUSALS as error:
            raise AtollError("wan.failed", f"the kernel refuses to change the link: {error}") from error

    def _lay(self, wires: Iterable[Ends]) -> None:
        for ends in wires:
            self._emulator.wire(ends, self.links.wire(ends), up=self.links.up(ends))

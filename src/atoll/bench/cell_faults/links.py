"""The links of a cell's cloud when several faults overlap: the properties that present faults set replace a link's own properties."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from atoll.cloud.network import Network
from atoll.wan.client import Wan


class FaultyLinks:
    """Cuts and changes links. When a fault ends, the effects of other faults on the same link remain.

    Args:
        wan: the emulated WAN.
        network: the topology, with the properties that links have without a fault.

    Every method raises AtollError: `wan.*`: the WAN does not answer.
    """

    def __init__(self, wan: Wan, network: Network) -> None:
        self._wan, self._network = wan, network
        self._cuts: list[str] = []
        self._changes: list[tuple[str, Mapping[str, Any]]] = []
        self._lock = threading.Lock()

    def cut(self, name: str) -> None:
        """Cut a link, or all links of a site."""
        name = self._canonical(name)
        with self._lock:
            self._wan.cut(name)
            self._cuts.append(name)

    def heal(self, name: str) -> None:
        """Undo one cut; the link stays cut while another fault cuts it."""
        name = self._canonical(name)
        with self._lock:
            self._cuts.remove(name)
            if name not in self._cuts:
                self._wan.heal(name)

    def change(self, name: str, changes: Mapping[str, Any]) -> None:
        """Change the properties of a link, or of all links of a site."""
        with self._lock:
            self._changes.append((self._canonical(name), changes))
            self._apply(name)

    def restore(self, name: str, changes: Mapping[str, Any]) -> None:
        """Undo one change of the properties of a link, or of all links of a site."""
        with self._lock:
            self._changes.remove((self._canonical(name), changes))
            self._apply(name)

    def _canonical(self, name: str) -> str:
        """Return the name of a link with its ends in the order of the topology."""
        known = {":".join(link) for link in self._network.links}
        swapped = ":".join(reversed(name.split(":")))
        return swapped if swapped in known else name

    def _concerned(self, name: str, ends: tuple[str, str]) -> bool:
        return name in ends or name in (":".join(ends), ":".join(reversed(ends)))

    def _apply(self, name: str) -> None:
        for ends, wire in self._network.wires.items():
            if self._concerned(name, ends):
                wanted = wire.to_json()
                for each, changes in self._changes:
                    if self._concerned(each, ends):
                        wanted |= changes
                self._wan.set(":".join(ends), wanted, one_way=True)

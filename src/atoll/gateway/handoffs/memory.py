"""The memory of servers that are handed off, at the source: whether it is sent, and its files.

nova-compute saves the memory when it stops a server in whose directory the gateway has put `KEEP_MEMORY`, and resumes the server from it
(`services/patches/nova/kept_memory.py`). While the server still runs, another program guesses the memory
(`services/nova/live_memory.py`), so that most of it is at the destination before the server stops.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

from atoll.gateway.handoffs.failures import HandoffRefused
from atoll.gateway.handoffs.journal import Departure
from atoll.gateway.handoffs.outgoing import MEMORY
from atoll.gateway.handoffs.worker import work
from atoll.identifiers import KEEP_MEMORY, KEPT_MEMORY, RESUMES

LOG = logging.getLogger(__name__)

PROGRAM = "atoll.services.nova.live_memory"

SLACK_MIB = 256
"""MiB by which a file of memory may be larger than the memory: it also holds the states of devices."""

_LIVE = ("live-memory", "live-hardware")


class ServerMemory:
    """The memory of the servers at this site.

    Args:
        instances: the directory of the servers.
        cloudlet: the directory of the cloudlet's files.
        socket: the socket of the site's libvirt.
        limited: the sites whose administrators are not administrators here.
    """

    def __init__(self, instances: Path, cloudlet: Path, socket: Path, limited: frozenset[str] = frozenset()) -> None:
        self._instances = instances
        self._cloudlet = cloudlet
        self._socket = socket
        self._limited = limited

    def ability(self) -> str:
        """Return the digest of what memory depends on at this site; empty if this site resumes no memory."""
        with suppress(OSError, UnicodeDecodeError):
            return (self._cloudlet / RESUMES).read_text(encoding="ascii")[:64]
        return ""

    def accepts(self, wished: object, source: str) -> bool:
        """Return whether this site resumes the memory that a source wants to send.

        QEMU reads the states of devices from it, so memory of a site that is not fully trusted is refused.

        Args:
            wished: the digest of what the memory depends on, as the source says.
            source: the source.
        """
        return bool(wished) and wished == self.ability() and source not in self._limited

    def ask(self, departure: Departure) -> None:
        """Have the memory of a server kept when the server stops, if it is to be sent."""
        if departure.active and departure.wish.get(MEMORY):
            (self._instances / departure.server / KEEP_MEMORY).touch()

    def ask_no_more(self, departure: Departure) -> None:
        """End the effect of `ask`."""
        (self._instances / departure.server / KEEP_MEMORY).unlink(missing_ok=True)

    async def files(self, departure: Departure, directory: Path, *, live: bool) -> tuple[Path, Path] | None:
        """Return the files of the memory that is to be sent and of the description of its machine; `None` if there is none.

        Args:
            departure: the hand-off.
            directory: the directory for a guess.
            live: whether to guess the memory of a running server, instead of taking the memory that was kept.
        """
        if not departure.wish.get(MEMORY) or not departure.active:
            return None
        if live:
            return await self._guess(departure, directory)
        memory, machine = (self._instances / departure.server / name for name in KEPT_MEMORY)
        return (memory, machine) if memory.is_file() else None

    async def _guess(self, departure: Departure, directory: Path) -> tuple[Path, Path] | None:
        memory, machine = (directory / name for name in _LIVE)
        task = {"socket": str(self._socket), "server": departure.server, "memory": str(memory), "hardware": str(machine)}
        try:
            answer = await work(task, program=PROGRAM)
        except HandoffRefused as refused:
            answer = {"reason": str(refused)}
        if "length" in answer:
            return memory, machine
        LOG.info("hand-off %s: the memory can't be copied ahead: %s", departure.id, answer.get("reason"))
        return None

    def most_bytes(self, wish: object) -> int:
        """Return the greatest size of the memory's file that a server with this description may have; 0 if no memory is sent."""
        return (int(wish.get("ram") or 0) + SLACK_MIB) << 20 if isinstance(wish, dict) and wish.get(MEMORY) else 0

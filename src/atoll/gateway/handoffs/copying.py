"""The transfer of a server's disk from the source, as residues against the newest state that both sites have."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from atoll.gateway.handoffs.failures import HandoffRefused
from atoll.gateway.handoffs.files import HandoffFiles
from atoll.gateway.handoffs.journal import Departure
from atoll.gateway.handoffs.memory import ServerMemory
from atoll.gateway.handoffs.outgoing import DOWN_S, PATIENCE_S, Sent, patient
from atoll.gateway.handoffs.peer_client import PeerClient
from atoll.gateway.handoffs.servers import disk_of
from atoll.gateway.handoffs.worker import work

LOG = logging.getLogger(__name__)

T = TypeVar("T")

PIECE = 1 << 20
"""Bytes of a residue that one request sends."""

LEVELS = ((6_000_000, 2), (1_000_000, 6), (0, 9))
"""Levels of compression: each with the rate of the link, in bytes per second, from which it is used. A slow link is worth more time."""

ASSUMED = 3_000_000.0
"""Bytes per second of a link that no residue has measured yet."""


class Copying:
    """The disks of servers that leave this site.

    Args:
        files: the files of hand-offs.
        peers: the requests to the destination.
        instances: the directory of the servers' disks.
        key: the file of this site's private key, which signs the residues.
        memory: the memory of the servers.
    """

    def __init__(self, files: HandoffFiles, peers: PeerClient, instances: Path, key: Path, memory: ServerMemory) -> None:
        self._files = files
        self._peers = peers
        self._instances = instances
        self._key = key
        self._memory = memory
        self._rates: dict[str, float] = {}
        self.progress: dict[str, dict[str, int]] = {}

    async def send(self, departure: Departure, *, live: bool) -> Sent:
        """Make a residue against the newest state that both sites have, send it, and have it applied.

        Raises:
            HandoffRefused: the disk can't be read, or the destination refuses.
            Unreachable: the destination was unreachable for long.
        """
        patience_s = PATIENCE_S if live else DOWN_S
        base = await self._base(departure)
        task = self._task(departure, base, live=live)
        memory = await self._memory.files(departure, self._files.directory(departure.id), live=live)
        if memory is not None:
            task |= dict(zip(("memory", "hardware"), map(str, memory), strict=True))
        made = await work(task, stopped=not live)
        self._note(departure, length=made["length"], sent=0)
        await self._send_file(departure, self._files.residue(departure.id), patience_s)
        await self._patient(lambda: self._peers.apply(departure, base, made["state"]), patience_s)
        if live:  # of a stopped server there is no new state here, and the last one is needed if the server returns
            self._files.keep_only(departure.id, made["state"])
        return Sent(made["length"], made["state"])

    async def drop(self, departure: Departure) -> None:
        """Delete the files of a hand-off at this site."""
        self._files.remove(departure.id)
        self.progress.pop(departure.id, None)

    def _task(self, departure: Departure, base: str, *, live: bool) -> dict[str, object]:
        rate = self._rates.get(departure.site, ASSUMED)
        return {
            "do": "residue",
            "states": str(self._files.states(departure.id)),
            "disk": str(disk_of(self._instances, departure.server)),
            "images": self._images,
            "live": live,
            "base": base,
            "target": str(self._files.residue(departure.id)),
            "key": str(self._key),
            "level": next(level for least, level in LEVELS if rate >= least),
        }

    async def _base(self, departure: Departure) -> str:
        """Return the newest state that both sites have; make one of the server's image, or an empty one, if there is none."""
        self._files.directory(departure.id)
        mine = self._files.held(departure.id)
        held = await self._patient(lambda: self._peers.held(departure), PATIENCE_S)
        for state in held.states:
            if state in mine:
                return state
        states = str(self._files.states(departure.id))
        for digest in held.launches:
            state = str((await work({"do": "launch", "states": states, "cache": str(self._files.cache), "digest": digest}))["state"])
            if state and await self._begun(departure, state):
                return state
        if (image := await self._image(departure)) is not None:
            state = str((await work({"do": "begin", "states": states, "disk": str(image)}))["state"])
            if await self._begun(departure, state):
                return state
        empty = str((await work({"do": "empty", "states": states}))["state"])
        if not await self._begun(departure, ""):
            raise HandoffRefused(f"{departure.site} can't begin a disk")
        return empty

    async def _begun(self, departure: Departure, state: str) -> bool:
        return await self._patient(lambda: self._peers.begin(departure, state), PATIENCE_S)

    async def _image(self, departure: Departure) -> Path | None:
        """Return the file of the image that is below a server's disk; `None` if the disk is complete in itself."""
        disk = disk_of(self._instances, departure.server)
        if not disk.exists():
            raise HandoffRefused("the server's disk is not at the machine of the site's gateway", 501)
        found = await work({"do": "backing", "states": str(self._files.states(departure.id)), "disk": str(disk), "images": self._images})
        return Path(found["file"]) if found["file"] else None

    @property
    def _images(self) -> str:
        return str(self._instances / "_base")

    async def _send_file(self, departure: Departure, path: Path, patience_s: float) -> None:
        """Send a residue piece by piece; after a cut, continue with the piece that the destination lacks.

        Raises:
            HandoffRefused: the destination answers, and has taken nothing more for `patience_s`; else it could keep the server stopped.
            Unreachable: the destination was unreachable for `patience_s`.
        """
        size, offset, began = path.stat().st_size, 0, time.monotonic()
        furthest, since = 0, began
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while offset < size:
                data = await asyncio.to_thread(os.pread, descriptor, PIECE, offset)
                after = offset + len(data)
                offset = await self._patient(partial(self._peers.piece, departure, offset, data), patience_s)
                if offset == after > furthest:
                    furthest, since = offset, time.monotonic()
                elif not 0 <= offset <= size or time.monotonic() - since > patience_s:
                    raise HandoffRefused(f"{departure.site} does not take the server's disk")
                self._note(departure, length=size, sent=offset)
        finally:
            os.close(descriptor)
        if size >= PIECE:
            self._rates[departure.site] = size / max(time.monotonic() - began, 1e-3)

    def _note(self, departure: Departure, **facts: int) -> None:
        self.progress[departure.id] = self.progress.get(departure.id, {}) | facts

    @staticmethod
    async def _patient(attempt: Callable[[], Awaitable[T]], patience_s: float) -> T:
        return await patient(attempt, patience_s, asyncio.sleep, time.monotonic)

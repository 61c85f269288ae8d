"""Fetches the data of one image from the sites that hold it, in chunks, several at a time."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from atoll.gateway.bring.asking import Asker
from atoll.gateway.bring.chunks import DIGEST
from atoll.gateway.bring.partial import Partial
from atoll.gateway.request.call import Unreachable
from atoll.gateway.request.paths import is_uuid, segment
from atoll.gateway.sites import Sites

LOG = logging.getLogger(__name__)

STREAMS = 6
"""Chunks under way at a time, each over a connection of its own: while one waits for a round trip, the others fill the link."""

HAND_OVER = 1 << 20
"""When no more than so many bytes of a chunk are missing, the next is asked for: its first byte shall follow the last of this one."""

STALL_S = 10.0
"""A stream that brings nothing for so long is given up."""

RETRY_S = 0.5
"""Before a stream that was given up tries again."""


class PullFailed(Exception):  # noqa: N818 - what has happened
    """An image could not be fetched. What has arrived is kept for the next time."""


class _Turn:
    """One of the streams, for a chunk."""

    def __init__(self, streams: asyncio.Semaphore) -> None:
        self._streams = streams
        self._mine = False

    async def begin(self) -> None:
        await self._streams.acquire()
        self._mine = True

    def end(self) -> None:
        """The next may begin; to say so again changes nothing."""
        if self._mine:
            self._streams.release()
        self._mine = False


class _Lost(Exception):  # noqa: N818
    """A chunk has not arrived, or not as it was sent."""


class _Gone(_Lost):
    """The holder does not have the image (any more)."""


@dataclass(frozen=True)
class Image:
    """An image at another site, as its Glance describes it.

    Attributes:
        id: its id.
        size: in bytes.
        algorithm: of its hash.
        hash: of the whole, in hexadecimal digits.
        description: all that Glance says.
    """

    id: str
    size: int
    algorithm: str
    hash: str
    description: Mapping[str, Any]

    @classmethod
    def described(cls, body: Mapping[str, Any], visibility: str) -> Image:
        """Read a description.

        Args:
            body: as Glance gives it.
            visibility: the visibility that the copy gets.

        Raises:
            PullFailed: it is not the description of an active image.
        """
        try:
            image, size = str(body["id"]), int(body["size"])
            algorithm, digest = str(body["os_hash_algo"]), str(body["os_hash_value"])
        except (KeyError, TypeError, ValueError) as error:
            raise PullFailed("what a site says of an image is incomplete") from error
        if not is_uuid(image.lower()) or size < 0:
            raise PullFailed("what a site says of an image is malformed")
        return cls(image, size, algorithm, digest, {**body, "visibility": visibility})


class Pull:
    """Fetches one image.

    Args:
        sites: to ask.
        image: the image, as all its holders describe it.
        holders: the sites that have it, nearest first. The next is taken when one fails, and the first again after the last.
        directory: for the partial file.
        patience_s: it gives up after so many seconds without any progress.
    """

    def __init__(self, sites: Sites, image: Image, holders: Sequence[str], directory: Path, patience_s: float) -> None:
        self.image = image
        self.source = holders[0]
        self._sites = sites
        self._holders = deque(holders)
        self._directory = directory
        self._patience_s = patience_s
        self._asker = Asker(sites, "", f"req-{image.id}")
        self._arrival = asyncio.Event()
        self._progress_at = 0.0
        self._partial: Partial | None = None
        self._whole = False
        self._tainted = False
        self._failure = ""

    def status(self) -> dict[str, Any]:
        """How far it is, for JSON."""
        have = self._partial.have if self._partial else 0
        return {"image": self.image.id, "size": self.image.size, "have": have, "from": self._holders[0] if self._holders else None}

    def begin(self) -> Partial:
        """Open the partial file, which the caller closes.

        Raises:
            OSError: it can't be written.
        """
        self._progress_at = asyncio.get_running_loop().time()
        image = self.image
        self._partial = Partial(self._directory / image.id, image.size, f"{image.algorithm}:{image.hash}")
        return self._partial

    async def fill(self) -> None:
        """Fetch the data, or what is missing of it. When this returns, it is there and its hash is right.

        Raises:
            PullFailed: no holder serves it; or what they serve is not the image.
            OSError: it can't be written.
        """
        assert self._partial is not None, "not begun"
        while await self._fill(self._partial, self.image.algorithm) != self.image.hash:
            self._tainted = True
            await self._check(self._partial)
        self._whole = True
        self._tell()

    async def half(self) -> None:
        """Wait until half of it is there: it is likely to succeed."""
        assert self._partial is not None, "not begun"
        while self._partial.have * 2 < self._partial.size:
            await self._arrival.wait()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The data from its beginning, as it arrives; the last chunk only when the whole is known to be right.

        Raises:
            PullFailed: what was yielded was not right.
        """
        partial = self._partial
        assert partial is not None, "not begun"
        whole = self._whole
        for index in range(partial.count):
            while index not in partial or (index == partial.count - 1 and not self._whole):
                await self._arrival.wait()
            if self._tainted and not whole:
                raise PullFailed(f"image {self.image.id}: some of it was damaged")
            yield await asyncio.to_thread(partial.read, index)

    def _tell(self) -> None:
        """Wake whoever waits for data."""
        self._arrival.set()
        self._arrival = asyncio.Event()

    async def _check(self, partial: Partial) -> None:
        """The hash is wrong: either what was on the disk was lost with the power, or somebody serves something else."""
        if not await asyncio.to_thread(partial.drop_damaged):
            partial.remove()
            raise PullFailed(f"image {self.image.id}: what was served has another hash than the image is said to have")

    def _holder(self) -> str:
        if not self._holders:
            raise PullFailed(f"image {self.image.id}: no site has it any more")
        return self._holders[0]

    async def _fail(self, holder: str, error: Exception) -> None:
        """A holder has failed: take the next, and wait a moment."""
        failure = f"{holder}: {error}"
        LOG.log(logging.DEBUG if failure == self._failure else logging.INFO, "image %s from %s", self.image.id, failure)
        self._failure = failure
        if self._holders and self._holders[0] == holder:
            self._holders.rotate(-1)
        if isinstance(error, _Gone) and holder in self._holders:
            self._holders.remove(holder)
        if asyncio.get_running_loop().time() - self._progress_at > self._patience_s:
            raise PullFailed(f"image {self.image.id}: {error}") from error
        await asyncio.sleep(RETRY_S)

    async def _fill(self, partial: Partial, algorithm: str) -> str:
        """Fetch the missing chunks, and return the hash of the whole, which is computed while they arrive."""
        queue = deque(partial.missing())
        streams = asyncio.Semaphore(STREAMS)
        try:
            async with asyncio.TaskGroup() as group:
                hashing = group.create_task(self._hash(partial, algorithm))
                for _ in range(2 * STREAMS):  # as many again may be ending
                    group.create_task(self._work(partial, queue, streams))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        return hashing.result()

    async def _work(self, partial: Partial, queue: deque[int], streams: asyncio.Semaphore) -> None:
        while queue:
            turn = _Turn(streams)
            await turn.begin()
            if not queue:
                turn.end()
                return
            index = queue.popleft()
            try:
                holder = self._holder()
                partial.add(index, await self._chunk(partial, index, holder, turn))
            except (Unreachable, _Lost) as error:
                queue.appendleft(index)
                await self._fail(holder, error)
            else:
                self._progress_at = asyncio.get_running_loop().time()
                self._tell()
            finally:
                turn.end()

    async def _chunk(self, partial: Partial, index: int, holder: str, turn: _Turn) -> str:
        """Fetch a chunk straight into the file, and return its digest."""
        offset, length = partial.span(index)
        call = self._asker.call("GET", "atoll", f"/images/{segment(self.image.id)}/chunks?offset={offset}&length={length}", "")
        digest = hashlib.sha256()
        end = offset + length
        try:
            async with self._sites.stream(holder, call) as answer:
                _check_status(answer.status)
                pieces = aiter(answer.pieces())
                while True:
                    async with asyncio.timeout(STALL_S):
                        piece = await anext(pieces, b"")
                    if not piece or offset + len(piece) > end:
                        break
                    partial.write(offset, piece)
                    digest.update(piece)
                    offset += len(piece)
                    if end - offset <= HAND_OVER:
                        turn.end()
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise _Lost(f"chunk {index} broke off: {error or type(error).__name__}") from error
        said = f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
        if offset != end or answer.headers.get(DIGEST) != said:
            raise _Lost(f"chunk {index} is damaged")
        return digest.hexdigest()

    async def _hash(self, partial: Partial, algorithm: str) -> str:
        try:
            whole = hashlib.new(algorithm)
        except ValueError as error:
            raise PullFailed(f"image {self.image.id}: nobody here can compute {algorithm!r}") from error
        for index in range(partial.count):
            while index not in partial:
                await self._arrival.wait()
            await asyncio.to_thread(_add, whole, partial, index)
        return whole.hexdigest()


def _check_status(status: int) -> None:
    if status == 404:
        raise _Gone("it does not have the image")
    if status != 200:
        raise _Lost(f"it answers {status}")


def _add(whole: hashlib._Hash, partial: Partial, index: int) -> None:
    whole.update(partial.read(index))

"""Fetch the data of one image from the sites that hold it, in several chunks at a time."""

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

from atoll.gateway.bring.chunks import DIGEST
from atoll.gateway.bring.partial_file import PartialFile
from atoll.gateway.bring.service_client import ServiceClient
from atoll.gateway.request.call import GATEWAY, Unreachable
from atoll.gateway.request.paths import is_uuid, segment
from atoll.gateway.sites import Sites

LOG = logging.getLogger(__name__)

STREAMS = 6
"""Number of chunks in flight, each over its own connection: while one waits for a round trip, the others fill the link."""

HAND_OVER = 1 << 20
"""Number of missing bytes of a chunk at which the next chunk is requested, so that the next one's data follow without a gap."""

STALL_S = 10.0
"""Seconds without data after which a stream is given up."""

RETRY_S = 0.5
"""Seconds before a failed stream is tried again."""


class PullFailed(Exception):
    """An image could not be fetched. The data that arrived are kept for the next attempt."""


class _Turn:
    """A slot of the parallel streams, taken for one chunk."""

    def __init__(self, streams: asyncio.Semaphore) -> None:
        self._streams = streams
        self._mine = False

    async def begin(self) -> None:
        await self._streams.acquire()
        self._mine = True

    def end(self) -> None:
        """Release the slot; a second call has no effect."""
        if self._mine:
            self._streams.release()
        self._mine = False


class _Lost(Exception):
    """A chunk did not arrive, or arrived damaged."""


class _Gone(_Lost):
    """The holder no longer has the image."""


@dataclass(frozen=True)
class SourceImage:
    """An image at another site, as its Glance describes it.

    Attributes:
        id: the image's id.
        size: size of the image's data in bytes.
        algorithm: the name of the hash algorithm.
        hash: the hash of the image's data, in hexadecimal digits.
        description: all fields that Glance shows.
    """

    id: str
    size: int
    algorithm: str
    hash: str
    description: Mapping[str, Any]

    @classmethod
    def described(cls, body: Mapping[str, Any], visibility: str) -> SourceImage:
        """Return the image that a Glance describes.

        Args:
            body: Glance's answer.
            visibility: the visibility that the copy gets.

        Raises:
            PullFailed: the answer does not describe an active image.
        """
        try:
            image, size = str(body["id"]), int(body["size"])
            algorithm, digest = str(body["os_hash_algo"]), str(body["os_hash_value"])
        except (KeyError, TypeError, ValueError) as error:
            raise PullFailed("a site's description of the image is incomplete") from error
        if not is_uuid(image.lower()) or size < 0:
            raise PullFailed("a site's description of the image is malformed")
        return cls(image, size, algorithm, digest, {**body, "visibility": visibility})


class ImagePull:
    """The transfer of one image's data to a partial file.

    Args:
        sites: sends requests to the sites.
        image: the image, as all its holders describe it.
        holders: the sites that have it, nearest first. If a site fails, the next site is used, and after the last site the first again.
        directory: the directory of the partial file.
        patience_s: seconds without progress after which the transfer fails.
    """

    def __init__(self, sites: Sites, image: SourceImage, holders: Sequence[str], directory: Path, patience_s: float) -> None:
        self.image = image
        self.source = holders[0]
        self._sites = sites
        self._holders = deque(holders)
        self._directory = directory
        self._patience_s = patience_s
        self._client = ServiceClient(sites, "", f"req-{image.id}")
        self._arrival = asyncio.Event()
        self._progress_at = 0.0
        self._partial: PartialFile | None = None
        self._whole = False
        self._tainted = False
        self._failure = ""

    def status(self) -> dict[str, Any]:
        """Return the progress of the transfer, for JSON."""
        have = self._partial.have if self._partial else 0
        return {"image": self.image.id, "size": self.image.size, "have": have, "from": self._holders[0] if self._holders else None}

    def begin(self) -> PartialFile:
        """Return the partial file, open; the caller closes it.

        Raises:
            OSError: the file can't be opened for writing.
        """
        self._progress_at = asyncio.get_running_loop().time()
        image = self.image
        self._partial = PartialFile(self._directory / image.id, image.size, f"{image.algorithm}:{image.hash}")
        return self._partial

    async def fill(self) -> None:
        """Fetch the missing data. When this returns, all data have arrived and their hash is right.

        Raises:
            PullFailed: no holder serves the data, or the data served are not the image's.
            OSError: the partial file can't be written.
        """
        assert self._partial is not None, "not begun"
        while await self._fill(self._partial, self.image.algorithm) != self.image.hash:
            self._tainted = True
            await self._check(self._partial)
        self._whole = True
        self._tell()

    async def half(self) -> None:
        """Wait until half of the data have arrived, so that the transfer is likely to succeed."""
        assert self._partial is not None, "not begun"
        while self._partial.have * 2 < self._partial.size:
            await self._arrival.wait()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the data from the beginning while they arrive; yield the last chunk only when the hash of all data is right.

        Raises:
            PullFailed: data that were yielded earlier were damaged.
        """
        partial = self._partial
        assert partial is not None, "not begun"
        whole = self._whole
        for index in range(partial.count):
            while index not in partial or (index == partial.count - 1 and not self._whole):
                await self._arrival.wait()
            if self._tainted and not whole:
                raise PullFailed(f"image {self.image.id}: some data arrived damaged")
            yield await asyncio.to_thread(partial.read, index)

    def _tell(self) -> None:
        """Wake the tasks that wait for data."""
        self._arrival.set()
        self._arrival = asyncio.Event()

    async def _check(self, partial: PartialFile) -> None:
        """Drop the chunks that a loss of power has damaged on the disk, after the hash of the whole was wrong.

        Raises:
            PullFailed: no chunk is damaged, so that a holder has served other data.
        """
        if not await asyncio.to_thread(partial.drop_damaged):
            partial.remove()
            raise PullFailed(f"image {self.image.id}: the data from a site do not have the image's hash")

    def _holder(self) -> str:
        if not self._holders:
            raise PullFailed(f"image {self.image.id}: no site has it any more")
        return self._holders[0]

    async def _fail(self, holder: str, error: Exception) -> None:
        """Go on to the next holder after one has failed, and wait `RETRY_S`."""
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

    async def _fill(self, partial: PartialFile, algorithm: str) -> str:
        """Fetch the missing chunks; return the hash of all data, which is computed while they arrive."""
        queue = deque(partial.missing())
        streams = asyncio.Semaphore(STREAMS)
        try:
            async with asyncio.TaskGroup() as group:
                hashing = group.create_task(self._hash(partial, algorithm))
                for _ in range(2 * STREAMS):  # twice as many, since a stream hands its slot over before it ends
                    group.create_task(self._work(partial, queue, streams))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        return hashing.result()

    async def _work(self, partial: PartialFile, queue: deque[int], streams: asyncio.Semaphore) -> None:
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

    async def _chunk(self, partial: PartialFile, index: int, holder: str, turn: _Turn) -> str:
        """Fetch a chunk straight into the file; return its digest."""
        offset, length = partial.span(index)
        call = self._client.call("GET", GATEWAY, f"/images/{segment(self.image.id)}/chunks?offset={offset}&length={length}", "")
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

    async def _hash(self, partial: PartialFile, algorithm: str) -> str:
        try:
            whole = hashlib.new(algorithm)
        except ValueError as error:
            raise PullFailed(f"image {self.image.id}: this site can't compute its hash {algorithm!r}") from error
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


def _add(whole: hashlib._Hash, partial: PartialFile, index: int) -> None:
    whole.update(partial.read(index))

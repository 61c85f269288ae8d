"""Sources of overlays: a file, standard input, or a URL. An interrupted transfer from a URL continues where it stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

import urllib3

from atoll.cloudlet.failures import invalid, unusable
from atoll.cloudlet.guarded import open_regular
from atoll.errors import AtollError

ATTEMPTS = 6
"""Number of successive connections to a URL's server without a received byte, after which the command ends with an error."""

TIMEOUT_S = 30.0
"""Seconds without a received byte after which a connection is considered interrupted."""

_FIRST_PAUSE_S = 0.5  # seconds before the second attempt; doubled with each further one
_PIECE = 1 << 16  # bytes
_FOUND = {200, 206}
_HINT = "run the same command again: it goes on where it stopped"

Sleep = Callable[[float], None]
"""A function that waits for a number of seconds."""


class Source(Protocol):
    """An overlay that is read from its beginning to its end."""

    name: str
    """The source's name, for errors."""

    def read(self, length: int) -> bytes:
        """Return exactly the next `length` bytes.

        Raises:
            AtollError: `cloudlet.source`: the source ended or failed earlier; `cloudlet.unusable`: the file can't be read.
        """

    def skip_to(self, offset: int) -> None:
        """Skip everything before an offset in bytes, which must not be less than the present offset.

        Raises:
            AtollError: as for `read`.
        """

    def reread(self, offset: int) -> bool:
        """Go back to an offset in bytes, to fetch a damaged segment again; return False if this source would return the same bytes."""

    def expect_end(self) -> None:
        """Check that the source has no further bytes.

        Raises:
            AtollError: `cloudlet.invalid`: the source has more bytes.
        """


class FileSource:
    """An overlay in an open file, or on standard input.

    Args:
        file: the file, open for reading.
        name: the file's name, for errors.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._offset = 0
        self.name = name

    def read(self, length: int) -> bytes:
        """Return exactly the next `length` bytes; see `Source.read`."""
        pieces, missing = [], length
        while missing:
            try:
                piece = self._file.read(min(missing, 1 << 20))
            except OSError as error:
                raise unusable(self.name, error) from None
            if not piece:
                raise AtollError("cloudlet.source", f"{self.name} ends after {self._offset} bytes, in the middle of the overlay", _HINT)
            pieces.append(piece)
            missing -= len(piece)
            self._offset += len(piece)
        return b"".join(pieces)

    def skip_to(self, offset: int) -> None:
        """Skip everything before an offset; see `Source.skip_to`."""
        if self._file.seekable():
            self._file.seek(offset - self._offset, 1)
            self._offset = offset
        while self._offset < offset:
            self.read(min(_PIECE, offset - self._offset))

    def reread(self, _offset: int) -> bool:
        """Return False: a file would return the same bytes again."""
        return False

    def expect_end(self) -> None:
        """Check that the source has no further bytes; see `Source.expect_end`."""
        try:
            more = self._file.read(1)
        except OSError as error:
            raise unusable(self.name, error) from None
        if more:
            raise invalid(self.name, f"more bytes follow the overlay, which ends at byte {self._offset}", "expected the overlay alone")


class UrlSource:
    """An overlay at a URL. After an interruption, the transfer continues at the same byte (HTTP ranges, RFC 9110, section 14).

    Args:
        url: an `http` or `https` URL.
        sleep: waits between attempts.
    """

    def __init__(self, url: str, sleep: Sleep = time.sleep) -> None:
        self.name = url
        self._sleep = sleep
        self._offset = 0
        self._failures = 0
        self._pool = urllib3.PoolManager(timeout=TIMEOUT_S, retries=urllib3.Retry(connect=0, read=0, status=0, other=0, redirect=5))
        self._answer: urllib3.BaseHTTPResponse | None = None

    def close(self) -> None:
        """Close the connection to the server."""
        if self._answer is not None:
            with suppress(urllib3.exceptions.HTTPError, OSError):
                self._answer.close()
        self._answer = None
        self._pool.clear()

    def read(self, length: int) -> bytes:
        """Return exactly the next `length` bytes; see `Source.read`."""
        pieces, missing = [], length
        while missing:
            piece = self._piece(missing)
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def skip_to(self, offset: int) -> None:
        """Skip everything before an offset; see `Source.skip_to`."""
        self.reread(offset)

    def reread(self, offset: int) -> bool:
        """Go back to an offset, to request the bytes again; return True, because the server may then send different bytes."""
        if offset != self._offset:
            self.close()
            self._offset = offset
        return True

    def expect_end(self) -> None:
        """Check that the server sends no further byte; a failure or a timeout is treated as the end. See `Source.expect_end`."""
        try:
            if self._answer is None:  # nothing was requested, because an interrupted command had fetched everything
                self._answer = self._request()
            more = self._answer.status in _FOUND and self._answer.read(1, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError, ValueError):
            return
        if more:
            raise invalid(self.name, f"more bytes follow the overlay, which ends at byte {self._offset}", "expected the overlay alone")

    def _piece(self, max_bytes: int) -> bytes:
        while True:
            try:
                if self._answer is None:
                    self._answer = self._connect()
                piece = self._answer.read(min(max_bytes, _PIECE), decode_content=False)
                if not piece:
                    raise urllib3.exceptions.IncompleteRead(self._offset, max_bytes)
            except ValueError as error:
                raise self._refused(f"this URL can't be fetched: {_first_line(error)}") from None
            except (urllib3.exceptions.HTTPError, OSError) as error:
                if _redirects(error):
                    raise self._refused("the server redirects too often") from None
                self.close()
                self._pause(error)
                continue
            self._failures = 0
            self._offset += len(piece)
            return bytes(piece)

    def _pause(self, error: Exception) -> None:
        self._failures += 1
        if self._failures >= ATTEMPTS:
            message = f"{self.name} failed at byte {self._offset}, {ATTEMPTS} times: {_first_line(error)}"
            raise AtollError("cloudlet.source", message, _HINT) from None
        self._sleep(_FIRST_PAUSE_S * 2 ** (self._failures - 1))

    def _connect(self) -> urllib3.BaseHTTPResponse:
        """Request the overlay from the present offset.

        Raises:
            AtollError: `cloudlet.source`: the server refuses.
        """
        answer = self._request()
        if answer.status in _FOUND:
            return answer
        answer.close()
        if answer.status >= 500:
            raise urllib3.exceptions.HTTPError(f"the server answers {answer.status}")
        reason = f"has no byte {self._offset}" if answer.status == 416 else f"answers {answer.status}"
        raise self._refused(f"the server {reason}")

    def _request(self) -> urllib3.BaseHTTPResponse:
        """Send the request, and return the answer, positioned at the present offset if it contains the overlay."""
        headers = {"Accept-Encoding": "identity", "Range": f"bytes={self._offset}-"}
        answer = self._pool.request("GET", self.name, headers=headers, preload_content=False)
        behind = self._offset if answer.status == 200 else 0  # a server that does not support ranges sends from the first byte
        while behind:
            piece = answer.read(min(behind, _PIECE), decode_content=False)
            if not piece:
                raise urllib3.exceptions.IncompleteRead(0, behind)
            behind -= len(piece)
        return answer

    def _refused(self, found: str) -> AtollError:
        self.close()
        return AtollError("cloudlet.source", f"{self.name}: {found}", "expected the URL of an overlay")


@contextmanager
def opened(name: str, stdin: BinaryIO | None) -> Iterator[Source]:
    """Open the source of an overlay.

    Args:
        name: a file, an `http` or `https` URL, or `-` for standard input.
        stdin: standard input; `None` if it is closed.

    Raises:
        AtollError: `cloudlet.unusable`: the file can't be opened; `cloudlet.source`: another scheme, or a closed standard input.
    """
    scheme, separator, _ = name.partition("://")
    if name == "-" and stdin is None:
        raise AtollError("cloudlet.source", "standard input is closed", "give an overlay on standard input, a file or a URL")
    if name == "-" and stdin is not None:
        yield FileSource(stdin, "standard input")
    elif separator and scheme.lower() in {"http", "https"}:
        source = UrlSource(name)
        try:
            yield source
        finally:
            source.close()
    elif separator:
        raise AtollError("cloudlet.source", f"{name}: the scheme {scheme} is not supported", "expected http, https, a file, or `-`")
    else:
        with ExitStack() as stack:
            try:
                file = stack.enter_context(os.fdopen(open_regular(Path(name)), "rb"))
            except OSError as error:
                raise unusable(name, error) from None
            yield FileSource(file, name)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _redirects(error: Exception) -> bool:
    """Return whether a request failed because of too many redirections."""
    return isinstance(error, urllib3.exceptions.MaxRetryError) and isinstance(error.reason, urllib3.exceptions.ResponseError)

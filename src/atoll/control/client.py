"""The client of the control protocol; synchronous, with one connection a request."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from atoll.control import sockets
from atoll.control.messages import Message, decode, encode, result
from atoll.errors import AtollError

ANSWER_S = 30.0
"""Seconds to wait for an answer, unless the client or the request gives another time."""

_ABSENT = (FileNotFoundError, NotADirectoryError, ConnectionRefusedError)
_MOST_SOCKETS = 200  # of one answer; the kernel passes at most 253 descriptors in one message
_SHORT_ANSWER = 65536  # bytes of an answer that carries sockets

Failure = Callable[[str], AtollError]
"""Makes an error from the reason for it."""


class ControlClient:
    """The client of one server, with one connection a request.

    Args:
        path: the path of the server's socket.
        lost: makes the error for a server that does not answer, or ends while it answers.
        absent: makes the error for a path where nothing listens; by default, `lost`.
        answer_s: seconds to wait for an answer.
        unknown: the code to use instead of an error code that this version does not have.
    """

    def __init__(
        self, path: Path, lost: Failure, *, absent: Failure | None = None, answer_s: float = ANSWER_S, unknown: str = "runtime.invalid"
    ) -> None:
        self._path, self._lost, self._absent = path, lost, absent or lost
        self._answer_s, self._unknown = answer_s, unknown

    def listens(self) -> bool:
        """Return whether a server listens at the path.

        Raises:
            AtollError: `lost`: a server may listen, but it cannot be reached.
        """
        try:
            sockets.connect(self._path, self._answer_s).close()
        except _ABSENT:
            return False
        except OSError as error:
            raise self._lost(_reason(error)) from error
        return True

    def ask(self, verb: str, *, timeout_s: float | None = None, **fields: object) -> Any:
        """Return the result of a request.

        Args:
            verb: the verb of the request.
            timeout_s: seconds to wait for the answer; by default, the client's `answer_s`.
            fields: the fields of the request.

        Raises:
            AtollError: the server's own error, `absent` or `lost`.
        """
        with self._request(verb, fields, timeout_s or self._answer_s) as messages:
            return result(next(messages), self._unknown)

    def follow(self, verb: str, **fields: object) -> Generator[Any, None, None]:
        """Send a request now, and return its events as they arrive, without a time limit.

        Raises:
            AtollError: as for `ask`; from the iterator if it comes after an event.
        """
        events = self._events(verb, fields)
        for first in events:  # the request is sent now, and may be refused now
            return _chain(first, events)
        return events

    def ask_for_sockets(self, verb: str, **fields: object) -> list[socket.socket]:
        """Return the sockets that the answer to a request carries.

        Raises:
            AtollError: as for `ask`.
        """
        with self._connection(verb, fields, self._answer_s) as connection:
            line, descriptors, _flags, _address = socket.recv_fds(connection, _SHORT_ANSWER, _MOST_SOCKETS)
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        carried = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        result(self._message(line), self._unknown)
        return carried

    def ask_and_await_end(self, verb: str, **fields: object) -> None:
        """Send a request that ends the server, and return when the server's process has ended.

        Raises:
            AtollError: as for `ask`.
        """
        with self._request(verb, fields, None) as messages:
            result(next(messages), self._unknown)
            for _message in messages:
                pass

    def _events(self, verb: str, fields: dict[str, object]) -> Generator[Any, None, None]:
        with self._request(verb, fields, None) as messages:
            for message in messages:
                if "event" not in message:
                    result(message, self._unknown)
                    return
                yield message["event"]
            raise self._lost("it has ended meanwhile")

    @contextmanager
    def _request(self, verb: str, fields: dict[str, object], timeout_s: float | None) -> Iterator[Iterator[Message]]:
        with self._connection(verb, fields, timeout_s) as connection, connection.makefile("rb") as lines:
            yield self._messages(lines)

    @contextmanager
    def _connection(self, verb: str, fields: dict[str, object], timeout_s: float | None) -> Iterator[socket.socket]:
        try:
            with sockets.connect(self._path, timeout_s) as connection:
                connection.sendall(encode({"verb": verb, **fields}))
                yield connection
        except _ABSENT as error:
            raise self._absent(_reason(error)) from error
        except TimeoutError as error:
            raise self._lost(f"no answer within {timeout_s:g} s") from error
        except OSError as error:
            raise self._lost(_reason(error)) from error

    def _messages(self, lines: IO[bytes]) -> Iterator[Message]:
        empty = True
        for line in lines:
            empty = False
            yield self._message(line)
        if empty:
            raise self._lost("it closed the connection")

    def _message(self, line: bytes) -> Message:
        if not line:
            raise self._lost("it closed the connection")
        try:
            return decode(line)
        except ValueError as error:  # it ended in the middle of a line
            raise self._lost("its answer is no message") from error


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _chain(first: object, rest: Iterator[Any]) -> Generator[Any, None, None]:
    yield first
    yield from rest

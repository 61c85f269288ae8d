"""The answers of an application over time: a thread asks again and again, and records when an answer came."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from types import TracebackType
from typing import Self

from atoll.bench.failure import failed
from atoll.bench.waiting import wait_until
from atoll.wan.isolation import within

INTERVAL_S = 0.05
"""Seconds between the end of one attempt and the next: the resolution of the time without an answer."""

_CONNECT_S = 0.2
"""Seconds to wait for a connection. The kernel repeats a lost packet only after 1 s, so a new attempt may succeed earlier."""

_ANSWER_S = 15.0
"""Seconds to wait for an answer. A shorter limit would be harmful on a busy machine: a guest without KVM computes the pages of abandoned
requests as well, and would never catch up."""

_PATH = "/atoll-bench"
"""A page that does not exist, so that the server's answer costs the guest no computation."""

_PORT = 80


def answers(network: int, address: str) -> bool:
    """Return whether an HTTP server answers, 404 included; an error status from 500 on is no answer.

    Args:
        network: a descriptor of the network namespace from which to ask.
        address: the IPv4 address of the server.
    """
    connection = http.client.HTTPConnection(address, _PORT)
    try:
        connection.sock = within(network, lambda: socket.create_connection((address, _PORT), _CONNECT_S))
        connection.sock.settimeout(_ANSWER_S)
        connection.request("GET", _PATH)
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return response.status < 500


def longest_gap(times: Iterable[float]) -> float:
    """Return the longest time between two answers that follow each other.

    Args:
        times: the times of answers in seconds, in any order, of all places where the application may be.

    Raises:
        AtollError: `bench.failed`: there are fewer than two answers.
    """
    ordered = sorted(times)
    if len(ordered) < 2:
        raise failed(f"the application answered {len(ordered)} times: the time without an answer can't be told")
    return max(later - earlier for earlier, later in pairwise(ordered))


class AnswerWatch:
    """A thread that asks for an answer again and again while the context lasts.

    Args:
        ask: asks once, and returns whether there was an answer.
        interval_s: seconds between the end of one attempt and the next.

    Attributes:
        times: the times of the answers, by `time.monotonic`.
    """

    def __init__(self, ask: Callable[[], bool], interval_s: float = INTERVAL_S) -> None:
        self._ask, self._interval_s = ask, interval_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="answers", daemon=True)
        self.times: list[float] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def first(self, what: str, timeout_s: float) -> float:
        """Wait for the first answer, and return its time.

        Args:
            what: the description of the server, for the error message.
            timeout_s: seconds to wait.

        Raises:
            AtollError: `bench.failed`: no answer came in time.
        """
        wait_until(lambda: bool(self.times), f"{what} answers", timeout_s, self._interval_s)
        return self.times[0]

    def _run(self) -> None:
        while not self._over.is_set():
            if self._ask():
                self.times.append(time.monotonic())
            self._over.wait(self._interval_s)

"""Follows the events of a Zenoh session's links in a thread of its own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import zenoh


class Follower:
    """A thread that calls a function whenever a link or transport of a session was opened or closed.

    It replaces a callback of Zenoh, which can deadlock: Zenoh's thread waits for the interpreter, and if nothing in this process refers to
    a router's session any more, the interpreter waits for all of Zenoh's threads.
    """

    def __init__(self, declare: Callable[[Any], Any], handle: Callable[[], None], name: str) -> None:
        """Start the thread, which follows the events until `stop`.

        Args:
            declare: a method of `Session.info` that declares a listener of events, such as `declare_link_events_listener`.
            handle: called after each event; several events in quick succession may cause one call.
            name: the name of the thread.
        """
        self._listener = declare(zenoh.handlers.RingChannel(1))
        self._thread = threading.Thread(target=_follow, args=(self._listener.handler, handle), name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop following, before the session is closed, and wait for the thread.

        A thread that still returned from Zenoh's code while the interpreter ends would abort the process ("exception not rethrown").
        """
        with contextlib.suppress(zenoh.ZError):  # the session is closed
            self._listener.undeclare()
        self._thread.join()


def _follow(events: Any, handle: Callable[[], None]) -> None:
    with contextlib.suppress(zenoh.ZError):  # the listener is undeclared, or the session is closed
        while events.recv():
            handle()

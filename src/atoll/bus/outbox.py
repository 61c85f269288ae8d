"""Where notifications wait on the sender's disk while nobody listens.

One SQLite file for all processes of a machine that use the same virtual host. One of them at a time, whoever gets the lock, hands on what
waits, oldest first for each topic; so what a process that ended has left is handed on by the others, or by the next. SQLite's limit on a
file's pages bounds it: when it is full the oldest tenth is dropped, and the log says how many.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from oslo_messaging import MessageDeliveryFailure, MessagingException

from atoll.bus.errors import NobodyListens

LOG = logging.getLogger(__name__)

POLL_INTERVAL_S = 1.0
"""Seconds between two looks for somebody who listens."""

_PAGE = 4096

_TABLE = "CREATE TABLE IF NOT EXISTS waiting (id INTEGER PRIMARY KEY AUTOINCREMENT, exchange TEXT, topic TEXT, body BLOB)"

Forward = Callable[[str, str, bytes], None]
"""Hands one notification (exchange, topic, body) on; raises NobodyListens, or another MessagingException when it can't be handed on now."""


class Outbox:
    """The notifications of one virtual host that wait on this machine."""

    def __init__(self, directory: Path, vhost: str, max_bytes: int, forward: Forward, *, durable: bool = True) -> None:
        """Open the outbox, and begin to hand on what waits there.

        Args:
            directory: of all outboxes; made if it is not there.
            vhost: the virtual host.
            max_bytes: bytes that the file may have.
            forward: hands a notification on.
            durable: what is kept survives a loss of power too.

        Raises:
            OSError, sqlite3.Error: it can't be read or written.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = quote(vhost, safe="") or "="
        self._path = directory / f"{name}.sqlite"
        self._lock_path = directory / f"{name}.lock"
        self._max_bytes = max_bytes
        self._forward = forward
        self._complained_of: set[tuple[str, str]] = set()
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._database = sqlite3.connect(self._path, timeout=30, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        self._database.execute(f"PRAGMA max_page_count={max(16, max_bytes // _PAGE)}")
        self._database.execute(_TABLE)
        self._path.chmod(0o600)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="zenoh-outbox", daemon=True)
        self._thread.start()

    @property
    def is_of_parent(self) -> bool:
        """Whether it was opened before a fork: SQLite forbids to use it here, even to close it, and its thread is not here."""
        return self._pid != os.getpid()

    def put(self, exchange: str, topic: str, body: bytes) -> None:
        """Keep a notification.

        Raises:
            MessageDeliveryFailure: it can't be written, or would push out too many others.
        """
        if len(body) > self._max_bytes // 2:
            raise MessageDeliveryFailure(
                f"nobody listens to notifications {topic}, and {len(body)} bytes are more than half of the outbox {self._path}"
            )
        try:
            with self._lock:
                self._insert(exchange, topic, body)
        except sqlite3.Error as error:
            raise MessageDeliveryFailure(
                f"nobody listens to notifications {topic}, and the outbox {self._path} can't be written: {error}"
            ) from error

    def _insert(self, exchange: str, topic: str, body: bytes) -> None:
        statement, values = "INSERT INTO waiting (exchange, topic, body) VALUES (?, ?, ?)", (exchange, topic, body)
        while True:
            try:
                self._database.execute(statement, values)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_FULL or not self._drop_oldest():
                    raise
            else:
                return

    def _drop_oldest(self) -> int:
        """Make room; returns how many were dropped."""
        query = "DELETE FROM waiting WHERE id IN (SELECT id FROM waiting ORDER BY id LIMIT (SELECT count(*) / 10 + 1 FROM waiting))"
        dropped = self._database.execute(query).rowcount
        LOG.warning("the outbox %s is full: dropped the %d oldest notifications, to which nobody listened", self._path, dropped)
        return dropped

    def has(self, exchange: str, topic: str) -> bool:
        """Whether notifications of this topic wait, before which a newer one must not be sent."""
        with self._lock:
            query = "SELECT EXISTS (SELECT 1 FROM waiting WHERE exchange = ? AND topic = ?)"
            return bool(self._database.execute(query, (exchange, topic)).fetchone()[0])

    def close(self) -> None:
        """Stop handing on; what waits stays on the disk."""
        self._stopped.set()
        # It may be waiting for a listener that has vanished with a notification, which takes too long: it closes the file itself later.
        self._thread.join(POLL_INTERVAL_S)
        if not self._thread.is_alive():
            self._database.close()

    # The thread that hands on

    def _run(self) -> None:
        lock = os.open(self._lock_path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            while True:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self._hand_on_all()
                    fcntl.flock(lock, fcntl.LOCK_UN)
                if self._stopped.wait(POLL_INTERVAL_S):
                    return
        finally:
            os.close(lock)
            if self._stopped.is_set():
                self._database.close()

    def _hand_on_all(self) -> None:
        try:
            with self._lock:
                topics = self._database.execute("SELECT DISTINCT exchange, topic FROM waiting").fetchall()
            for exchange, topic in topics:
                self._hand_on(exchange, topic)
        except sqlite3.Error as error:
            self._complain(("", ""), f"the outbox {self._path} can't be read: {error}")

    def _hand_on(self, exchange: str, topic: str) -> None:
        try:
            while not self._stopped.is_set() and self._hand_on_one(exchange, topic):
                self._complained_of.clear()
        except NobodyListens:
            return
        except MessagingException as error:
            self._complain((exchange, topic), f"a notification for {topic} stays in the outbox: {error}")

    def _complain(self, of: tuple[str, str], text: str) -> None:
        """Log it, but not again with each look, until something could be handed on."""
        if of not in self._complained_of:
            self._complained_of.add(of)
            LOG.warning(text)

    def _hand_on_one(self, exchange: str, topic: str) -> bool:
        """Hand the oldest of a topic on; whether there was one."""
        with self._lock:
            query = "SELECT id, body FROM waiting WHERE exchange = ? AND topic = ? ORDER BY id LIMIT 1"
            row = self._database.execute(query, (exchange, topic)).fetchone()
        if row is None:
            return False
        self._forward(exchange, topic, row[1])
        with self._lock:
            self._database.execute("DELETE FROM waiting WHERE id = ?", (row[0],))
        return True

"""The outbox: notifications that wait on the sender's disk while nobody listens.

One SQLite file serves all processes of a machine that use the same virtual host. The process that holds the lock forwards the messages,
oldest first for each topic, including those of processes that have ended. SQLite's limit on a file's pages bounds
the file: when it is full, the oldest tenth is dropped, and the number is logged.
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
"""Seconds between two checks whether somebody listens."""

_PAGE = 4096

_TABLE = "CREATE TABLE IF NOT EXISTS waiting (id INTEGER PRIMARY KEY AUTOINCREMENT, exchange TEXT, topic TEXT, body BLOB)"

Forward = Callable[[str, str, bytes], None]
"""A function that forwards one notification (exchange, topic, body).

It raises `NobodyListens`, or another `MessagingException` if the notification can't be forwarded now."""


class Outbox:
    """The notifications of one virtual host that wait on this machine."""

    def __init__(self, directory: Path, vhost: str, max_bytes: int, forward: Forward, *, durable: bool = True) -> None:
        """Open the outbox, and begin to forward the messages that wait there.

        Args:
            directory: the directory of all outboxes; created if it does not exist.
            vhost: the virtual host.
            max_bytes: the greatest size of the file, in bytes.
            forward: forwards a notification.
            durable: flush to the disk, so that notifications survive a loss of power.

        Raises:
            OSError, sqlite3.Error: the outbox can't be read or written.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = quote(vhost, safe="") or "="
        self._path = directory / f"{name}.sqlite"
        self._lock_path = directory / f"{name}.lock"
        self._max_bytes = max_bytes
        self._forward = forward
        self._warned_about: set[tuple[str, str]] = set()
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
        """True if the outbox was opened before a fork. SQLite forbids using or closing it here, and the fork has no copy of its thread."""
        return self._pid != os.getpid()

    def put(self, exchange: str, topic: str, body: bytes) -> None:
        """Keep a notification until somebody listens.

        Raises:
            MessageDeliveryFailure: the message can't be written, or would displace too many others.
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
        """Drop the oldest tenth of the notifications, and return the number dropped."""
        query = "DELETE FROM waiting WHERE id IN (SELECT id FROM waiting ORDER BY id LIMIT (SELECT count(*) / 10 + 1 FROM waiting))"
        dropped = self._database.execute(query).rowcount
        LOG.warning("the outbox %s is full: dropped the %d oldest notifications, to which nobody listened", self._path, dropped)
        return dropped

    def has(self, exchange: str, topic: str) -> bool:
        """Return whether notifications of this topic wait, which have to be sent before a newer one."""
        with self._lock:
            query = "SELECT EXISTS (SELECT 1 FROM waiting WHERE exchange = ? AND topic = ?)"
            return bool(self._database.execute(query, (exchange, topic)).fetchone()[0])

    def close(self) -> None:
        """Stop forwarding; waiting messages stay on the disk."""
        self._stopped.set()
        # The thread may be waiting for a listener that vanished with a notification, which takes too long: it then closes the file itself.
        self._thread.join(POLL_INTERVAL_S)
        if not self._thread.is_alive():
            self._database.close()

    # The forwarding thread

    def _run(self) -> None:
        lock = os.open(self._lock_path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            while True:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self._forward_all()
                    fcntl.flock(lock, fcntl.LOCK_UN)
                if self._stopped.wait(POLL_INTERVAL_S):
                    return
        finally:
            os.close(lock)
            if self._stopped.is_set():
                self._database.close()

    def _forward_all(self) -> None:
        try:
            with self._lock:
                topics = self._database.execute("SELECT DISTINCT exchange, topic FROM waiting").fetchall()
            for exchange, topic in topics:
                self._forward_topic(exchange, topic)
        except sqlite3.Error as error:
            self._warn_once(("", ""), f"the outbox {self._path} can't be read: {error}")

    def _forward_topic(self, exchange: str, topic: str) -> None:
        try:
            while not self._stopped.is_set() and self._forward_oldest(exchange, topic):
                self._warned_about.clear()
        except NobodyListens:
            return
        except MessagingException as error:
            self._warn_once((exchange, topic), f"a notification for {topic} stays in the outbox: {error}")

    def _warn_once(self, of: tuple[str, str], text: str) -> None:
        """Log a warning, and do not repeat it until a notification was forwarded."""
        if of not in self._warned_about:
            self._warned_about.add(of)
            LOG.warning(text)

    def _forward_oldest(self, exchange: str, topic: str) -> bool:
        """Forward the oldest notification of a topic; return whether there was one."""
        with self._lock:
            query = "SELECT id, body FROM waiting WHERE exchange = ? AND topic = ? ORDER BY id LIMIT 1"
            row = self._database.execute(query, (exchange, topic)).fetchone()
        if row is None:
            return False
        self._forward(exchange, topic, row[1])
        with self._lock:
            self._database.execute("DELETE FROM waiting WHERE id = ?", (row[0],))
        return True

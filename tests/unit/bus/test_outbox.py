"""The outbox: notifications wait on disk in order, are forwarded once, and are bounded."""

import fcntl
import logging
import os
import sqlite3
import threading

import pytest
from oslo_messaging import MessageDeliveryFailure, MessagingTimeout

from atoll.bus import outbox as outbox_module
from atoll.bus.errors import NobodyListens
from atoll.bus.outbox import Outbox

MEGABYTE = 1024 * 1024


class Listeners:
    """The listeners to which notifications are forwarded."""

    def __init__(self, *, there: bool = False):
        self.there = there
        self.error: Exception | None = None
        self.got = []
        self.tried = threading.Semaphore(0)

    def __call__(self, exchange, topic, body):
        try:
            if self.error is not None:
                raise self.error
            if not self.there:
                raise NobodyListens("nobody")
            self.got.append((exchange, topic, body))
        finally:
            self.tried.release()

    def wait(self, times: int = 1):
        for _ in range(times):
            assert self.tried.acquire(timeout=20)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(outbox_module, "POLL_INTERVAL_S", 0.005)


@pytest.fixture
def make(tmp_path):
    made = []

    def make_(forward, *, size=MEGABYTE, vhost="v"):
        made.append(Outbox(tmp_path, vhost, size, forward))
        return made[-1]

    yield make_
    for outbox in made:
        outbox.close()


def waits(outbox, topic="t"):
    return outbox.has("e", topic)


def until(condition):
    """Wait for the forwarding thread to make a condition true."""
    event = threading.Event()
    for _ in range(4000):
        if condition():
            return
        event.wait(0.005)
    raise AssertionError("it did not happen")


def test_notifications_wait_until_somebody_comes_and_keep_their_order(make):
    listeners = Listeners()
    outbox = make(listeners)
    for number in range(20):
        outbox.put("e", "t", b"%d" % number)
    outbox.put("e", "other", b"x")
    listeners.wait(3)
    assert waits(outbox)
    listeners.there = True
    until(lambda: not waits(outbox) and not waits(outbox, "other"))
    assert [body for _, topic, body in listeners.got if topic == "t"] == [b"%d" % number for number in range(20)]
    assert ("e", "other", b"x") in listeners.got


def test_notifications_of_an_ended_process_are_forwarded_by_the_next(make):
    first = make(Listeners())
    first.put("e", "t", b"1")
    first.close()
    listeners = Listeners(there=True)
    outbox = make(listeners)
    until(lambda: not waits(outbox))
    assert listeners.got == [("e", "t", b"1")]


def test_one_process_at_a_time_hands_on(make, tmp_path):
    lock = os.open(tmp_path / "v.lock", os.O_CREAT | os.O_WRONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    listeners = Listeners(there=True)
    outbox = make(listeners)
    outbox.put("e", "t", b"1")
    assert not listeners.tried.acquire(timeout=0.05)
    os.close(lock)
    until(lambda: not waits(outbox))
    assert len(listeners.got) == 1


def test_notification_that_failed_stays_and_is_told_once(make, caplog):
    listeners = Listeners()
    listeners.error = MessagingTimeout("gone")
    outbox = make(listeners)
    outbox.put("e", "t", b"1")
    listeners.wait(10)
    assert waits(outbox)
    listeners.error, listeners.there = None, True
    until(lambda: not waits(outbox))
    assert [body for *_, body in listeners.got] == [b"1"]
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "stays in the outbox" in warnings[0].message


def test_outbox_is_bounded_and_the_oldest_go(make, caplog):
    listeners = Listeners()
    outbox = make(listeners, size=MEGABYTE)
    with caplog.at_level(logging.WARNING):
        for number in range(300):
            outbox.put("e", "t", b"%06d" % number + b"x" * 10_000)
    assert outbox._path.stat().st_size <= MEGABYTE
    lines = [record.message for record in caplog.records]
    assert lines
    assert all("is full: dropped the" in line for line in lines)
    assert len(lines) < 40, "expected one log line for each dropped tenth, not for each notification"
    listeners.there = True
    until(lambda: not waits(outbox))
    numbers = [int(body[:6]) for *_, body in listeners.got]
    assert numbers == list(range(numbers[0], 300)), "the newest notifications must be left, in order"
    assert len(numbers) > 50


def test_notification_larger_than_the_outbox_is_refused_and_pushes_nothing_out(make, caplog):
    outbox = make(Listeners())
    outbox.put("e", "t", b"small")
    with pytest.raises(MessageDeliveryFailure, match="more than half of the outbox"):
        outbox.put("e", "t", b"x" * 2 * MEGABYTE)
    assert waits(outbox)
    assert caplog.records == []


def test_outbox_that_can_t_be_written_is_told(make):
    outbox = make(Listeners())
    outbox._database.execute("DROP TABLE waiting")
    with pytest.raises(MessageDeliveryFailure, match="can't be written"):
        outbox.put("e", "t", b"1")
    outbox._database.execute(outbox_module._TABLE)


def test_thread_that_hands_on_survives_an_error(make, caplog):
    """A short disk error must not end the thread: notifications would wait until the next start."""
    listeners = Listeners(there=True)
    outbox = make(listeners)
    with outbox._lock:
        outbox._database.execute("DROP TABLE waiting")
    until(lambda: caplog.records)
    with outbox._lock:
        outbox._database.execute(outbox_module._TABLE)
    outbox.put("e", "t", b"1")
    until(lambda: listeners.got)


def test_virtual_hosts_have_outboxes_of_their_own(make, tmp_path):
    one = make(Listeners(), vhost="")
    make(Listeners(), vhost="a/b")
    one.put("e", "t", b"1")
    assert {path.name for path in tmp_path.glob("*.sqlite")} == {"=.sqlite", "a%2Fb.sqlite"}
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.glob("*.sqlite"))


def test_closing_waits_for_nothing_that_waits(make):
    outbox = make(Listeners())
    outbox.put("e", "t", b"1")
    outbox.close()
    outbox.close()


def test_closing_does_not_wait_for_a_delivery_that_hangs(tmp_path):
    begun, release = threading.Event(), threading.Event()

    def forward(*_):
        begun.set()
        release.wait()

    outbox = Outbox(tmp_path, "v", 2**20, forward)
    outbox.put("e", "t", b"x")
    assert begun.wait(10)
    closing = threading.Thread(target=outbox.close)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
    release.set()
    outbox._thread.join(10)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        outbox.has("e", "t")


@pytest.mark.parametrize(("options", "synchronous"), [({}, 2), ({"durable": True}, 2), ({"durable": False}, 1)])
def test_notifications_survive_a_loss_of_power_if_durable(tmp_path, options, synchronous):
    outbox = Outbox(tmp_path, "v", 2**20, lambda *_: None, **options)
    assert outbox._database.execute("PRAGMA synchronous").fetchone()[0] == synchronous
    outbox.close()

"""The netlink messages for netem. Their effect is tested on machines whose kernel has netem: tests/sites/test_wan.py."""

import struct
import subprocess
from itertools import pairwise

import pytest

from atoll.cloud.network import Wire
from atoll.wan import netem
from atoll.wan.kernel import from_statistics

TICKS_PER_MS = 15625
"""The kernel's clock: a tick is 64 ns on all present kernels (/proc/net/psched)."""

WHOLE = 2**32 - 1


def attributes(data: bytes) -> dict[int, bytes]:
    """Return netlink attributes by kind."""
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        found[kind & 0x3FFF] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found


def sent(wire: Wire, *, up: bool = True) -> tuple[dict[str, int], dict[int, bytes]]:
    """Return the fixed part of the queue's message by field, and its attributes."""
    message = netem.message(7, wire, up=up)
    length, kind, flags = struct.unpack_from("=IHH", message)
    assert (length, kind, flags) == (len(message), 36, 0x1 | 0x4 | 0x100 | 0x400)  # RTM_NEWQDISC; request, ack, replace, create
    assert struct.unpack_from("=BxxxiIII", message, 16) == (0, 7, 0, 0xFFFFFFFF, 0)  # the root queue of device 7
    outer = attributes(message[36:])
    assert outer[1] == b"netem\0"
    names = ("latency", "limit", "loss", "gap", "duplicate", "jitter")
    return dict(zip(names, struct.unpack_from("=6I", outer[2]), strict=True)), attributes(outer[2][24:])


def test_all_at_once():
    fixed, more = sent(Wire(delay_ms=10.5, jitter_ms=1, rate_mbit=100, loss=0.015, reorder=0.05))
    assert fixed["latency"] == pytest.approx(10.5 * TICKS_PER_MS, abs=1)
    assert fixed["jitter"] == TICKS_PER_MS
    assert fixed["loss"] == pytest.approx(0.015 * WHOLE, abs=1)
    assert fixed["gap"] == 1
    assert struct.unpack("=II", more[3])[0] == pytest.approx(0.05 * WHOLE, abs=1)  # TCA_NETEM_REORDER
    assert struct.unpack("=IiIi", more[6]) == (12_500_000, 0, 0, 0)  # TCA_NETEM_RATE, in bytes per second


def test_an_unlimited_rate_is_configured_too_because_it_keeps_the_order():
    _fixed, more = sent(Wire(delay_ms=1))
    assert struct.unpack_from("=I", more[6])[0] == netem.UNLIMITED


def test_cut_loses_everything():
    fixed, _more = sent(Wire(delay_ms=10), up=False)
    assert (fixed["latency"], fixed["loss"]) == (0, WHOLE)


def test_queue_holds_what_is_under_way_and_what_waits():
    assert sent(Wire(delay_ms=100, rate_mbit=1000))[0]["limit"] == 12_500  # 150 ms of a gigabit, in packets of 1500 bytes
    assert sent(Wire(rate_mbit=1))[0]["limit"] == 1000
    limits = [sent(Wire(delay_ms=delay, rate_mbit=1000))[0]["limit"] for delay in range(0, 60_000, 5000)]
    assert all(less <= more for less, more in pairwise(limits))
    assert limits[-1] == 1_000_000


def test_longest_delay_and_highest_rate_fit():
    fixed, more = sent(Wire(delay_ms=60_000, jitter_ms=60_000, rate_mbit=30_000, loss=1, reorder=1))
    assert fixed["latency"] == 60_000 * TICKS_PER_MS
    assert struct.unpack_from("=I", more[6])[0] == 3_750_000_000


def test_question_for_netem_is_answered_and_leaves_nothing():
    before = subprocess.run(["cat", "/proc/net/dev"], capture_output=True, check=True).stdout
    try:
        assert netem.available() in (True, False)
    except PermissionError:
        pytest.skip("this user may not make network namespaces")
    names = [line.split(b":")[0] for line in before.splitlines()]
    after = subprocess.run(["cat", "/proc/net/dev"], capture_output=True, check=True).stdout
    assert [line.split(b":")[0] for line in after.splitlines()] == names


def test_kernel_counts_headers_that_we_do_not():
    counters = from_statistics(octets=1514 * 10, packets=10, drops=3, waiting=2, up=True)
    assert (counters.packets_in, counters.packets_out, counters.bytes_out, counters.lost, counters.cut) == (15, 10, 15_000, 3, 0)
    assert from_statistics(0, 0, 3, 0, up=False).cut == 3

"""Sharing of a fork server's pages: immortal objects, and filled holes in its memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

HOLES = """
import gc, sys
from atoll.runtime import memory
litter = [bytes(size) for size in range(1, 400) for _ in range(200)]
del litter[::2]
gc.collect()
before = sum(size * free for size, free in memory._free_blocks())
filled = memory.fill_holes()
after = sum(size * free for size, free in memory._free_blocks())
print(before, filled, after)
"""

HEAP = """
import ctypes
from atoll.runtime import memory
library = ctypes.CDLL(None)
library.mallinfo2.restype = memory._MallocInfo
def free():
    info = library.mallinfo2()
    return info.free - info.top
litter = [bytes(size) for size in range(600, 20_000, 7)]
del litter[::2]
before = free()
filled = memory.fill_heap()
print(before, filled, free())
"""

THREADS = """
import threading
from pathlib import Path
from atoll.runtime import memory
memory.share_heap()
kept, barrier = [], threading.Barrier(8)
def work():
    barrier.wait()
    kept.append(bytes(10_000))
threads = [threading.Thread(target=work) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
heaps = [line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith("[heap]")]
print(sum(any(int(start, 16) <= id(each) < int(end, 16) for start, end in heaps) for each in kept))
"""

IMMORTAL = """
import gc, sys
from atoll.runtime import memory

class Kind:
    def __init__(self):
        self.attribute = 5.25

def function():
    return "a constant with spaces", 1234.5, b"bytes"

values = {"a key with spaces": ["a value with spaces", ("a tuple", Kind())], 12345: bytearray(5)}
function()
number = memory.immortalize()
late = object()
constants = function.__code__.co_consts
for each in (values, *values, *values.values(), values["a key with spaces"][0], values["a key with spaces"][1][1], Kind, function,
             function.__code__, constants, *constants, values["a key with spaces"][1][1].attribute):
    assert sys.getrefcount(each) == 0xFFFF_FFFF, each
assert sys.getrefcount(late) == 2, "what is made later lives as ever"
assert number > 1000
"""

SHARED = """
import gc, os, sys
from atoll.runtime import memory
from pathlib import Path

def written():
    text = Path("/proc/self/smaps_rollup").read_text()
    return 1024 * sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_Dirty"))

objects = [{f"key {index}": (f"value {index}", index + 0.5)} for index in range(50_000)]
memory.immortalize()
gc.freeze()
if not os.fork():
    before = written()
    for each in objects:
        for key, value in each.items():
            hash(key), value[0], value[1]
    print(written() - before, flush=True)
    os._exit(0)
os.wait()
"""

AFTERWARDS = """
import asyncio, collections, gc, json, sys, threading, weakref
from cryptography.hazmat.primitives import hashes  # an extension of the stable ABI, which does not know of immortality
from atoll.runtime import memory

class Kind:
    attribute = "of the class"
    def method(self, text):
        text += " and more"
        return text

text, items, mapping, kind = "a text", [1.5, 2.5], {"one": 1.5}, Kind()
data = b"some bytes" * 10
holder = weakref.WeakValueDictionary(kind=kind)
memory.immortalize()

def work():
    global text, items, mapping, kind
    for index in range(2000):
        text += "more"  # grows in place if there is no other reference
        items += (index,)
        mapping[f"key {index}"] = items
        del mapping[f"key {index}"]
        kind.method("a text")
        setattr(Kind, f"a{index % 7}", index)
        digest = hashes.Hash(hashes.SHA256())
        digest.update(data)
        digest.finalize()
        json.loads(json.dumps(mapping))
        sys.intern(f"text {index}")
    cycle = Kind()
    cycle.cycle, cycle.old = cycle, kind
    gone.append(weakref.ref(cycle))

gone = []
threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
asyncio.run(asyncio.sleep(0))
del items, mapping, kind, Kind.method
gc.collect()
gc.unfreeze()
gc.collect()
assert text == "a text" + "more" * 8000 or len(text) > 8000
assert all(reference() is None for reference in gone), "cycles made later are collected"
assert holder["kind"].attribute == "of the class", "what is immortal stays"
assert sys.getrefcount(data) == 0xFFFF_FFFF, "as often counted up as down"
"""


def run(script: str) -> str:
    """Run a script in a process of its own, so that the memory of the test's process does not change."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "the allocator's report must not go to standard error"
    return done.stdout


def test_most_of_the_holes_are_filled() -> None:
    before, filled, after = map(int, run(HOLES).split())
    assert before > 1_000_000
    assert filled > 0.8 * before
    assert after < 0.2 * before


def test_most_of_the_holes_of_the_heap_are_filled() -> None:
    before, filled, after = map(int, run(HEAP).split())
    assert before > 5_000_000
    assert filled > 0.8 * before
    assert after < 0.2 * before


def test_threads_have_one_heap() -> None:
    assert run(THREADS) == "8\n"


immortal = pytest.mark.skipif(sys.version_info[:2] not in {(3, 12), (3, 13)}, reason="this Python has no immortal objects, or other ones")


@immortal
def test_existing_objects_become_immortal_and_later_ones_do_not() -> None:
    run(IMMORTAL)


@immortal
def test_children_that_look_at_objects_share_them_still() -> None:
    assert int(run(SHARED)) < 1_000_000


@immortal
def test_a_program_goes_on_as_before() -> None:
    run(AFTERWARDS)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="this Python has immortal objects")
def test_without_immortal_objects_nothing_is_done() -> None:
    assert run("from atoll.runtime import memory; print(memory.immortalize())") == "0\n"

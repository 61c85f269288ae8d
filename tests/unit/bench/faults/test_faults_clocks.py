import os
import shutil
import subprocess
import sys
import time

import pytest

from atoll.bench.faults.clocks import Clocks
from atoll.errors import AtollError
from atoll.namespaces import Namespace

SAID = """
import contextlib, datetime, sqlite3, sys, threading, time
def look():
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        now = database.execute("select strftime('%s', 'now')").fetchone()[0]
    print(time.time(), datetime.datetime.now(datetime.timezone.utc).timestamp(), now, flush=True)
look()
sys.stdin.readline()
look()
begun = time.monotonic()
taken = threading.Lock()
taken.acquire()
taken.acquire(timeout=0.2)
print(time.monotonic() - begun)
"""


@pytest.mark.skipif(not (shutil.which("cc") or shutil.which("gcc")), reason="there is no C compiler")
def test_a_process_sees_the_clock_of_its_network_and_timers_go_on(tmp_path):
    clocks = Clocks(tmp_path)
    clocks.register({"elsewhere": Namespace("/proc/self/ns/mnt"), "here": Namespace("/proc/self/ns/net")})
    clocks.set("elsewhere", 86400)
    clocks.set("here", 3600)
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", SAID], stdin=pipe, stdout=pipe, env=os.environ | clocks.environment) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        ahead = [float(word) - time.time() for word in child.stdout.readline().split()]
        assert all(3570 < each < 3601 for each in ahead), ahead
        clocks.set("here", -3600)
        child.stdin.write(b"\n")
        child.stdin.flush()
        behind = [float(word) - time.time() for word in child.stdout.readline().split()]
        assert all(-3631 < each < -3599 for each in behind), behind
        assert 0.19 < float(child.stdout.readline()) < 30


def test_without_a_compiler_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AtollError, match="need a C compiler") as caught:
        Clocks(tmp_path)
    assert caught.value.kind.code == "bench.requirement"

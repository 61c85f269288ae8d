"""`Child` in a process without a supervisor."""

import subprocess
import sys

import pytest

STRUCK = """
import os, signal, sys, threading, time
from atoll.runtime.child import Child

child = Child("x", {}, [], os.open("/dev/null", os.O_WRONLY), job=False)
child.on_stop(lambda: print("in order", flush=True))
child.ready()

def strike():
    while open(f"/proc/self/task/{os.getpid()}/wchan").read() in ("", "0"):
        time.sleep(0.01)  # until the main thread sleeps
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    threading.Event().wait()

threading.Thread(target=strike, daemon=True).start()
child.wait()
"""


@pytest.mark.timeout(90)
def test_sigterm_that_strikes_another_thread_ends_the_wait():
    done = subprocess.run([sys.executable, "-c", STRUCK], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "in order\n"


REPORTS = """
import os
from atoll.runtime.child import Child

reading, writing = os.pipe()
child = Child("x", {}, [], writing, job=False)
child.starting()
child.starting()
child.ready()
child.starting()
print(*os.read(reading, 100).decode().split())
"""


def test_progress_is_reported_until_the_service_is_ready():
    done = subprocess.run([sys.executable, "-c", REPORTS], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "starting starting ready\n"

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from atoll.bench import workspace
from atoll.bench.workspace import free_ports
from atoll.errors import AtollError

EXPERIMENT = """
import signal, subprocess, sys, time
# Whoever runs the tests as a background job of a shell has this signal ignored, and so would this process.
signal.signal(signal.SIGINT, signal.default_int_handler)
from atoll.bench.workspace import workspace

# Like a daemon: its parent ends at once, it has a session of its own.
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
daemon = f"import subprocess; print(subprocess.Popen({sleep}, start_new_session=True, stdout=subprocess.DEVNULL).pid)"
with workspace({}, lambda text: None) as work:
    pid = int(subprocess.run([sys.executable, "-c", daemon], stdout=subprocess.PIPE).stdout)
    child = subprocess.Popen(sleep)
    print(work.root, pid, child.pid, flush=True)
    if sys.argv[1] != "end":
        time.sleep(600)
"""


@pytest.mark.parametrize("how", ["end", signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left(how):
    process = subprocess.Popen([sys.executable, "-c", EXPERIMENT, str(how)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    root, *pids = process.stdout.readline().split()
    if how != "end":
        assert Path(root).stat().st_mode & 0o777 == 0o700
        assert all(psutil.pid_exists(int(pid)) for pid in pids)
        process.send_signal(how)
    _out, err = process.communicate(timeout=30)
    assert process.returncode == (0 if how == "end" else -signal.SIGINT), err
    assert not Path(root).exists()
    deadline = time.monotonic() + 5
    while any(psutil.pid_exists(int(pid)) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_free_ports_are_free_and_apart(monkeypatch):
    bases = free_ports(2)
    assert bases[1] - bases[0] >= 10
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that `free_ports` returned may be in TIME_WAIT
        taken.bind(("127.0.0.1", bases[0] + 3))
        taken.listen()
        assert bases[0] not in free_ports(2)


def test_too_few_ports(monkeypatch):
    monkeypatch.setattr(workspace, "_is_free", lambda _port: False)
    with pytest.raises(AtollError, match="expected 2 times 10 ports in a row"):
        free_ports(2)

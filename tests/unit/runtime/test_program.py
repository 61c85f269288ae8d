"""Processes that become programs, without a supervisor: the tests read the status pipe in its place."""

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

BECOME = """
import os, sys
from pathlib import Path
from atoll.runtime.child import Child
from atoll.runtime.program import become

status, mark, *command = sys.argv[1:]
os.set_inheritable(int(status), False)  # like the descriptors that a supervisor passes
child = Child("x", {}, [], int(status), job=False)
become(child, command, lambda: Path(mark).exists(), {"TOLD": "so"})
"""


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a process that becomes a command, and returns it with its status pipe."""
    with ExitStack() as stack:
        yield lambda *command: _start(stack, tmp_path, *command)


def _start(stack: ExitStack, tmp_path: Path, *command: str) -> tuple[subprocess.Popen[str], int]:
    heard, told = os.pipe()
    arguments = [sys.executable, "-c", BECOME, str(told), str(tmp_path / "mark"), *command]
    process = subprocess.Popen(arguments, pass_fds=[told], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    os.close(told)
    stack.enter_context(process)
    stack.callback(process.kill)
    stack.callback(os.close, heard)
    return process, heard


def test_program_takes_the_place_of_the_process_and_is_ready_when_it_says_so(start, tmp_path):
    process, heard = start("sh", "-c", f"echo $$ $TOLD; touch {tmp_path}/mark; exec sleep 60")
    assert process.stdout is not None
    assert process.stdout.readline().split() == [str(process.pid), "so"]
    assert os.read(heard, 100) == b"ready\n"
    assert os.read(heard, 100) == b""  # neither the program nor its watcher holds the pipe any longer
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == -signal.SIGTERM


def test_program_that_dies_before_it_is_ready_is_never_called_so(start):
    process, heard = start("sh", "-c", "exit 3")
    assert process.wait(10) == 3
    assert os.read(heard, 100) == b""


def test_programs_see_a_broken_pipe_as_a_signal(start):
    """Python ignores SIGPIPE, and an ignored signal stays ignored across `exec`."""
    process, _heard = start("sh", "-c", "grep SigIgn /proc/self/status")
    out, _err = process.communicate(timeout=10)
    assert int(out.split()[1], 16) >> signal.SIGPIPE - 1 & 1 == 0


def test_missing_program_is_named(start):
    process, _heard = start("no-such-program")
    _out, err = process.communicate(timeout=10)
    assert err.strip() == "no-such-program is not installed"
    assert process.returncode == 1


@pytest.mark.timeout(60)
def test_watcher_ends_with_a_program_that_is_killed(start):
    process, heard = start("sleep", "60")
    time.sleep(0.3)
    process.kill()
    process.wait(10)
    assert os.read(heard, 100) == b""

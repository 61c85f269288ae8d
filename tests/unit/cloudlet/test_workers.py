"""Processes that share work: order, errors, and an end with the main process."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from atoll.cloudlet.workers import Workers, suitable
from atoll.errors import AtollError


@pytest.mark.parametrize("processes", [1, 2])
def test_results_are_in_order(processes):
    with Workers(processes) as workers:
        assert list(workers.map(abs, range(-20, 0))) == list(range(20, 0, -1))
        assert list(workers.map(abs, [])) == []


@pytest.mark.parametrize("processes", [1, 2])
def test_errors_come_through(processes):
    with Workers(processes) as workers, pytest.raises(FileNotFoundError):
        list(workers.map(os.listdir, [".", "/nowhere"]))


def test_killed_process():
    with Workers(2) as workers, pytest.raises(AtollError, match="was killed") as caught:
        list(workers.map(os._exit, [9]))
    assert caught.value.kind.code == "cloudlet.worker"


def test_small_files_need_no_processes(tmp_path):
    (tmp_path / "small").write_bytes(b"x")
    assert suitable([tmp_path / "small", tmp_path / "missing"]) == 1


def test_no_process_outlives_a_killed_command():
    code = "import time; from atoll.cloudlet.workers import Workers; w = Workers(2); print(*w.map(abs, [1]), flush=True); time.sleep(60)"
    main = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert main.stdout is not None
    assert main.stdout.readline() == b"1\n"
    children = psutil.Process(main.pid).children(recursive=True)
    assert len(children) >= 2
    main.send_signal(signal.SIGKILL)
    main.wait()
    main.stdout.close()
    _, alive = psutil.wait_procs(children, 30)
    assert alive == []

"""Programs that an agent has left behind."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from atoll.services.neutron import orphans


@pytest.fixture
def program(tmp_path):
    """A function that starts a program with a file as its argument, as agents do."""
    started = []

    def start(told):
        started.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", str(told)]))
        # The pipe by which Popen learns of the new program closes before the kernel shows its command line.
        while not Path(f"/proc/{started[-1].pid}/cmdline").read_bytes():
            time.sleep(0.01)
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.wait()


@pytest.mark.parametrize("name", ["external/pids/1.pid.haproxy", "dhcp/2/pid"])
def test_programs_of_an_agent_are_ended_and_others_are_not(tmp_path, program, name):
    state = tmp_path / "agents"
    ours, other = program(state / "x.conf"), program(tmp_path / "other" / "x.conf")
    for file, process in ((state / name, ours), (state / "external" / "pids" / "other.pid", other)):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{process.pid}\n", encoding="ascii")
    (state / "dhcp").mkdir(exist_ok=True)
    (state / "dhcp" / "pid-that-is-none").write_text("x", encoding="ascii")
    assert sorted(orphans.kill_orphans(state)) == sorted([(state / name).name, "other.pid", "pid-that-is-none"])
    assert ours.wait(10) == -9
    assert other.poll() is None
    assert [file for file in state.rglob("*") if file.is_file()] == []


def test_an_agent_that_never_ran_has_left_none(tmp_path):
    assert orphans.kill_orphans(tmp_path / "agents") == []

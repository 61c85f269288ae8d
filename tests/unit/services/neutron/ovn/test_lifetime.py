"""Processes that end when another one does."""

import os
import subprocess
import sys
from dataclasses import replace

from atoll.services.neutron.ovn import layout, lifetime

ENDS = """
    import time
    from atoll.services.neutron.ovn import lifetime
    lifetime.end_with(int(sys.argv[1]), "the other one has ended")
    time.sleep(60)
"""


def test_process_ends_with_another_one_and_says_why():
    code = "import sys\n" + "\n".join(line.strip() for line in ENDS.splitlines())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        command = [sys.executable, "-c", code, str(other.pid)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as ours:
            assert other.stdin
            other.stdin.close()
            assert ours.communicate(timeout=30)[1] == "the other one has ended\n"
            assert ours.returncode == 1


def test_switch_is_found_by_its_pid_file(settings):
    told = replace(settings, network="ovs")
    layout.directory(told).mkdir(parents=True)
    (layout.directory(told) / "ovs-vswitchd.pid").write_text(f"{os.getpid()}\n", encoding="ascii")
    assert lifetime.switch(told) == os.getpid()

"""A site's guests as processes; here, Python programs that look like QEMU from outside."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from atoll.site import guests

GUEST = """
import json, os, signal, socket, sys
monitor, obeys, stubborn = sys.argv[2:5]
if stubborn == "yes":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
server = socket.socket(socket.AF_UNIX)
os.chdir(os.path.dirname(monitor))  # the whole path may be too long for the address of a socket
server.bind(os.path.basename(monitor))
server.listen()
print("up", flush=True)
while True:
    connection = server.accept()[0]
    connection.sendall(b'{"QMP": {"version": {}, "capabilities": []}}\\n')
    while data := connection.recv(65536):  # one command at a time, with no newline
        command = json.loads(data)
        connection.sendall(json.dumps({"return": {}} | ({"id": command["id"]} if "id" in command else {})).encode() + b"\\n")
        if command["execute"] == "system_powerdown" and obeys == "yes":
            os._exit(0)
"""


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a guest, with the files that libvirt would write."""
    started = []

    def start_(name: str, obeys: bool = True, stubborn: bool = False) -> subprocess.Popen:
        pids, monitors = tmp_path / "run/libvirt/qemu", tmp_path / f"data/libvirt/lib/qemu/domain-1-{name}"
        for directory in (pids, monitors):
            directory.mkdir(parents=True, exist_ok=True)
        words = [f"guest={name},debug-threads=on", str(monitors / "monitor.sock"), *("yes" if word else "no" for word in (obeys, stubborn))]
        process = subprocess.Popen([sys.executable, "-c", GUEST, *words], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "up\n"
        (pids / f"{name}.pid").write_text(str(process.pid))
        return process

    yield start_
    for process in started:
        process.kill()
        process.communicate()


def test_guests_are_found_by_what_runs(start, tmp_path):
    process = start("instance-00000001")
    pids = tmp_path / "run/libvirt/qemu"
    (pids / "instance-00000002.pid").write_text(str(os.getpid()))  # the pid of another process
    (pids / "instance-00000003.pid").write_text("garbage")
    (pids / "driver.pid").write_text("1")
    (found,) = guests.running(tmp_path)
    assert (found.name, found.pid, found.monitor.name) == ("instance-00000001", process.pid, "monitor.sock")
    assert guests.running(tmp_path / "no-such-site") == []


def test_power_button_is_pressed(start, tmp_path):
    process = start("instance-00000001")
    guests.power_off([tmp_path])
    assert process.wait(5) == 0


def test_a_guest_that_does_not_react_is_ended(start, tmp_path):
    deaf, stubborn = start("instance-00000001", obeys=False), start("instance-00000002", obeys=False, stubborn=True)
    begun = time.monotonic()
    guests.power_off([tmp_path], grace_s=0.3)
    assert (deaf.wait(5), stubborn.wait(5)) == (-signal.SIGTERM, -signal.SIGKILL)
    assert time.monotonic() - begun < 30


def test_power_cut_asks_nobody(start, tmp_path):
    process = start("instance-00000001")
    guests.kill([tmp_path, Path("/no/such/site")])
    assert process.wait(5) == -signal.SIGKILL

"""The supervisor's control socket: permissions, refused requests, and clients that can't harm the supervisor."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from handling import kill, pids, plan

from atoll.control import sockets
from atoll.control.messages import encode
from atoll.errors import AtollError
from atoll.runtime import client
from atoll.runtime.client import ProcessState, SupervisorClient, connect, ensure_supervisor

pytestmark = pytest.mark.timeout(30)


def ask(control, line):
    with sockets.connect(control.path, 5.0) as connection:
        connection.sendall(line)
        return json.loads(connection.makefile().readline())


def test_no_supervisor_exists_before_it_is_started(directory):
    assert connect(directory) is None
    assert connect(directory / "deeper") is None


def test_two_callers_that_start_it_at_the_same_time_get_the_same(directory):
    found = []
    threads = [threading.Thread(target=lambda: found.append(ensure_supervisor(directory).ping()["pid"])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1


def test_only_its_user_may_speak_to_it(control, directory):
    assert stat.S_IMODE(control.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir() if file.is_file()} == {0o600}


def test_a_directory_that_others_may_write_to_is_refused(directory):
    directory.mkdir()
    directory.chmod(0o777)
    with pytest.raises(AtollError, match="can be changed by others"):
        ensure_supervisor(directory)


def test_a_directory_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(AtollError) as caught:
        ensure_supervisor(tmp_path / "file")
    assert caught.value.kind.code == "state.unusable"


def test_a_long_path_works(directory, process):
    deep = directory / ("x" * 100) / ("y" * 100)
    control = ensure_supervisor(deep)
    list(control.start(plan(process("service"))))
    assert connect(deep).ping()["pid"] == control.ping()["pid"]
    control.shutdown()
    assert connect(deep) is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"\n", "one line with a JSON object"),
        (b"\xff\xfe\x00\n", "one line with a JSON object"),
        (b"[" * 100_000 + b"\n", "one line with a JSON object"),
        (b"[]\n", "one line with a JSON object"),
        (b"{}\n", "does not know the verb None"),
        (b'{"verb": ["start"]}\n', "does not know the verb ['start']"),
        (b'{"verb": "start"}\n', "a plan must be an object"),
        (b'{"verb": "start", "plan": {"processes": [{}]}}\n', "'name' of process must be text"),
        (b'{"verb": "stop", "names": "all"}\n', "'names' must be a list of text"),
    ],
)
def test_nonsense_is_refused_and_harmless(control, line, expected):
    answer = ask(control, line)
    assert answer["error"]["code"] in ("runtime.invalid", "process.unknown")
    assert expected in answer["error"]["message"]
    assert control.ping()["pid"]


def test_an_endless_line_is_refused(control, monkeypatch):
    with sockets.connect(control.path, 5.0) as connection:
        chunk = b"x" * (1 << 20)
        with pytest.raises(OSError, match=r"Broken pipe|Connection reset"):
            for _ in range(64):
                connection.sendall(chunk)
    assert control.ping()["pid"]


def test_a_second_command_is_refused_while_one_runs(control, process):
    events = control.start(plan(process("hang")))
    with pytest.raises(AtollError) as caught:
        control.stop()
    assert caught.value.kind.code == "state.busy"
    assert "(start)" in caught.value.message
    assert control.status()
    events.close()


def stop_when_free(control, names=None):
    """Stop processes, with a ping before each retry: the supervisor notices a closed connection in the same loop."""
    for _ in range(100):
        try:
            return list(control.stop(names))
        except AtollError:
            control.ping()
    return list(control.stop(names))


def test_a_client_that_leaves_frees_the_way_and_stops_nothing(control, process):
    events = control.start(plan(process("service"), process("hang")))
    for event in events:
        if event.process == "paris/service" and event.state is ProcessState.READY:
            break
    events.close()
    stop_when_free(control, ["paris/hang"])
    assert set(pids(control)) >= {"paris/service"}
    assert "paris/hang" not in pids(control)


def test_a_client_that_does_not_read_holds_up_nobody(control, process):
    with sockets.connect(control.path, 5.0) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        many = plan(*(process("service", f"paris/{number}") for number in range(10)))
        deaf.sendall(encode({"verb": "start", "plan": many.to_json()}))
        # A process has a pid before it is ready; the start ends only when all are ready.
        while sum(status.state is ProcessState.READY for status in control.status()) < 14:
            pass
        stop_when_free(control)
    assert len(pids(control)) == 4


def test_shutdown_ends_everything_even_in_the_middle_of_a_start(control, process, directory):
    events = control.start(plan(process("hang")))
    supervisor = pids(control)["supervisor"]
    control.shutdown()
    with pytest.raises(AtollError, match="paris/hang stopped"):
        list(events)
    assert connect(directory) is None
    again = ensure_supervisor(directory)
    assert again.ping()["pid"] != supervisor


def test_a_supervisor_that_dies_is_noticed(control, process):
    events = control.start(plan(process("hang")))
    kill(pids(control)["supervisor"])
    with pytest.raises(AtollError) as caught:
        list(events)
    assert caught.value.kind.code == "runtime.unreachable"
    with pytest.raises(AtollError, match="does not answer"):
        control.status()


def test_a_supervisor_that_does_not_answer_is_not_replaced(control, directory, monkeypatch):
    pid = control.ping()["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        monkeypatch.setattr(client, "_ANSWER_S", 0.1)
        with pytest.raises(AtollError) as caught:
            ensure_supervisor(directory)
        assert caught.value.kind.code == "runtime.unreachable"
    finally:
        os.kill(pid, signal.SIGCONT)


def test_the_supervisor_keeps_nothing_of_its_callers(directory):
    """A shell pipeline must end with the command, though the supervisor goes on."""
    script = "import sys; from atoll.runtime.client import ensure_supervisor; print(ensure_supervisor(sys.argv[1]).ping()['pid'])"
    reading, writing = os.pipe()
    done = subprocess.run(
        [sys.executable, "-c", script, str(directory)],
        capture_output=True,
        check=True,
        pass_fds=[writing],
        timeout=20,
        cwd=directory.parent,
    )
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b""
    pid = int(done.stdout)
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    assert os.getsid(pid) != os.getsid(0)


def test_the_supervisor_takes_little_memory(control):
    (supervisor,) = control.status(memory=True)
    assert supervisor.memory_bytes < 20 * 1024 * 1024


def test_an_unreachable_socket_is_an_error_of_ours(tmp_path):
    with pytest.raises(AtollError) as caught:
        SupervisorClient(tmp_path / "none.sock").ping()
    assert caught.value.kind.code == "runtime.unreachable"


@pytest.mark.parametrize("name", ["supervisor.log", "supervisor.lock", "control.sock"])
def test_a_file_that_cannot_be_made_is_an_error_of_ours(directory, name):
    (directory / name).mkdir(parents=True)
    directory.chmod(0o700)
    with pytest.raises(AtollError, match=r"state cannot be used: Is a directory|control.sock cannot be reached"):
        ensure_supervisor(directory)
    (directory / name).rmdir()
    assert ensure_supervisor(directory).ping()["pid"]

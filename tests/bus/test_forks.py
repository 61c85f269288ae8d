"""Files that a process opens, and when: nothing before its fork, no multicast, and nothing that keeps it from ending."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from stage import ActorError, Process, until

PROGRAM = """
import sys, warnings
warnings.simplefilter("ignore")
sys.modules["eventlet"] = None
import oslo_service.backend
oslo_service.backend.init_backend(oslo_service.backend.BackendType.THREADING)
import oslo_messaging
from oslo_config import cfg
from oslo_messaging import Target
cfg.CONF([])
class Endpoint:
    def who(self, ctxt):
        return "me"
    def info(self, *_):
        pass
transport = oslo_messaging.get_rpc_transport(cfg.CONF, "zenoh:///v")
client = oslo_messaging.get_rpc_client(transport, Target(topic="t"))
notifications = oslo_messaging.get_notification_transport(cfg.CONF, "zenoh:///v")
server = oslo_messaging.get_rpc_server(transport, Target(topic="t", server="s"), [Endpoint()])
"""


def sockets(pid: int) -> list[str]:
    """Return the open sockets of a process, as the kernel names them."""
    found = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(path.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:"):
            found.append(target)
    return found


def udp(pid: int) -> list[str]:
    """Return the UDP sockets of a process."""
    inodes = {target.removeprefix("socket:[").removesuffix("]") for target in sockets(pid)}
    lines = [line for name in ("udp", "udp6") for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]]
    return [line for line in lines if line.split()[9] in inodes]


def test_parent_of_a_fork_has_opened_nothing_and_both_children_serve(stage, client):
    parent = stage.process()
    assert parent.do("count_threads") == 2, "expected two threads: the main one, and the one that answers this command"
    before = sockets(parent.pid)
    children = []
    for name in ("one", "two"):
        path = stage.directory / f"{name}.commands"
        parent.do("fork", path=str(path))
        child = Process(path)
        stage.adopt(child)
        child.do("serve", server=name)
        children.append(child)
    assert sockets(parent.pid) == before, "expected only the socket over which the test sends commands"
    assert len(before) == 1
    until(lambda: len(list(Path(f"/proc/{parent.pid}/task").iterdir())) == 1)
    assert [client.do("call", method="pid", server=name, retry=-1) for name in ("one", "two")] == [child.pid for child in children]


def test_child_of_a_process_on_the_bus_is_told_and_does_the_parent_no_harm(stage, client):
    parent = stage.server("parent")
    parent.do("notify", payloads=["of the parent"])
    assert client.do("call", method="pid", server="parent", retry=-1) == parent.pid
    path = stage.directory / "child.commands"
    parent.do("fork", path=str(path))
    child = Process(path)
    stage.adopt(child)
    with pytest.raises(ActorError, match="was forked from one that had joined the bus, and can't join"):
        child.do("call", method="who")
    with pytest.raises(ActorError, match="was forked from one that had joined the bus"):
        child.do("serve", server="child")
    child.kill()
    assert client.do("call", method="pid", server="parent", retry=-1) == parent.pid
    stage.process().do("listen")
    stage.await_words("of the parent")


def test_no_multicast_unless_asked(stage, client):
    server = stage.server()
    assert client.do("call", method="who", retry=-1) == "s"
    for process in (server, client):
        assert udp(process.pid) == []
        assert len(sockets(process.pid)) > 1
    asked = stage.server("asked", multicast_scouting=True)
    assert udp(asked.pid)


def test_nothing_is_found_in_another_directory(stage):
    stage.server(machine="one")
    with pytest.raises(ActorError, match="NobodyListens"):
        stage.process(machine="two").do("call", method="who")


@pytest.mark.parametrize(
    "end",
    [
        "pass",
        "server.start(); print(client.call({}, 'who'))",
        "server.start(); client.call({}, 'who'); sys.exit(0)",
        "server.start(); client.call({}, 'who'); server.stop(); server.wait()",
        "oslo_messaging.Notifier(notifications, 'me', driver='messaging', topics=['x']).info({}, 'e', {})",
        "import threading; threading.Thread(target=lambda: (server.start(), client.call({}, 'who'))).start()",
    ],
)
def test_process_ends_without_cleanup(stage, end):
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(stage.directory / "run"), "XDG_STATE_HOME": str(stage.directory / "state")}
    program = textwrap.dedent(PROGRAM) + end
    done = subprocess.run([sys.executable, "-c", program], env=environment, timeout=60, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(stage.directory.glob("run/**/*.sock")) == []

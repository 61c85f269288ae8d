"""The WAN with real namespaces and packets but without OpenStack, with every emulator that this machine supports."""

import itertools
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from deployment import await_exit, until
from ordinary import ordinary

from atoll.cloud.network import Network, Node, Wire
from atoll.errors import AtollError
from atoll.namespaces import Namespace
from atoll.wan import isolation
from atoll.wan.addresses import Addresses
from atoll.wan.client import Wan, WanOptions
from atoll.wan.isolation import within
from atoll.wan.kernel import KernelEmulator
from atoll.wan.probe import Echo

LATE_MS = 25.0
"""Greatest error in milliseconds of the fastest of several packets, on a busy machine."""

Start = Callable[..., Wan]


def mesh(delay_ms: float = 5, names: str = "abc") -> Network:
    return Network(tuple(map(Node, names)), {ends: Wire(delay_ms=delay_ms) for ends in itertools.permutations(names, 2)})


def chain(names: str = "abc", *, routers: str = "") -> Network:
    steps = [*itertools.pairwise(names), *itertools.pairwise(reversed(names))]
    nodes = tuple(Node(name, site=name not in routers) for name in names)
    return Network(nodes, {ends: Wire(delay_ms=5) for ends in steps})


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return Path(tmp_path_factory.mktemp("wan"))


@pytest.fixture(params=["userspace", "netem"])
def start(request, root) -> Iterator[Start]:
    """Yield a function that starts WANs, and end them afterwards."""
    made: list[Wan] = []

    def start_(network: Network, **options: object) -> Wan:
        directory = root / f"{request.param}-{request.node.name}-{len(made)}"
        directory.mkdir()
        try:
            made.append(Wan.start(directory, network, WanOptions(emulator=request.param, **options)))
        except AtollError as error:
            if error.kind.code == "wan.unavailable":
                pytest.skip(f"{error.message}: the emulator {request.param} was not tested")
            raise
        return made[-1]

    yield start_
    for wan in made:
        wan.close()


def echoes(wan: Wan, start: str, end: str, count: int = 10) -> list[Echo]:
    return wan.probe([(start, end)], count, 0.02, 1.0)[start, end]


def quickest_ms(wan: Wan, start: str, end: str) -> float | None:
    return min((echo.rtt_ms for echo in echoes(wan, start, end) if echo.rtt_ms is not None), default=None)


def assert_rtt(wan: Wan, start: str, end: str, asked_ms: float) -> None:
    measured = quickest_ms(wan, start, end)
    assert measured is not None
    assert asked_ms <= measured <= asked_ms + LATE_MS


def test_round_trips_are_those_asked_for(start):
    wan = start(mesh())
    wan.set("a:b", {"delay_ms": 100})
    wan.set("c:a", {"delay_ms": 30}, one_way=True)
    assert_rtt(wan, "a", "b", 200)
    assert_rtt(wan, "a", "c", 35)
    assert_rtt(wan, "b", "c", 10)


def test_packets_go_through_sites_and_routers(start):
    wan = start(chain("abcd", routers="bc"))
    assert sorted(wan.addresses) == ["a", "d"]
    assert_rtt(wan, "a", "d", 30)
    assert all(wan.counters()[link]["packets_out"] >= 10 for link in ("a:b", "b:c", "c:d", "d:c"))


def test_every_site_has_the_same_ports_and_they_are_its_own(start):
    wan = start(mesh())
    listeners = {site: wan.listen(site, [("0.0.0.0", 5000), ("127.0.0.1", 8774)]) for site in "abc"}
    for site, address in wan.addresses.items():
        client = wan.popen("a", [sys.executable, "-c", f"import socket; socket.create_connection(('{address}', 5000), 30)"])
        connection, (peer, _port) = listeners[site][0].accept()
        assert peer == wan.addresses["a"]
        connection.close()
        assert client.wait(30) == 0
    with pytest.raises(AtollError) as caught:
        wan.listen("a", [("0.0.0.0", 9696), ("0.0.0.0", 5000)])
    assert caught.value.kind.code == "port.in_use"
    wan.listen("a", [("0.0.0.0", 9696)])[0].close()  # nothing is left of the refused request
    for each in itertools.chain(*listeners.values()):
        each.close()


def test_cut_is_total_and_heals(start):
    wan = start(mesh())
    wan.cut("a:b")
    assert quickest_ms(wan, "a", "b") is None
    assert_rtt(wan, "a", "c", 10)
    wan.heal("a:b")
    assert_rtt(wan, "a", "b", 10)
    wan.cut("c")
    assert quickest_ms(wan, "a", "c") is None
    assert quickest_ms(wan, "c", "b") is None
    assert_rtt(wan, "a", "b", 10)
    wan.heal()
    assert_rtt(wan, "c", "b", 10)
    assert wan.counters()["a:b"]["cut"] >= 10


def test_cut_takes_what_is_under_way_too(start):
    wan = start(mesh(delay_ms=400))
    found: list[Echo] = []
    prober = threading.Thread(target=lambda: found.extend(wan.probe([("a", "b")], 50, 0.02, 2.0)["a", "b"]))
    prober.start()
    until(lambda: wan.counters()["a:b"]["packets_in"] > 5, "packets under way")
    cut_s = time.monotonic()
    wan.cut("a:b")
    prober.join()
    late = [echo for echo in found if echo.rtt_ms is not None and echo.sent_s + echo.rtt_ms / 1e3 > cut_s + 0.1]
    assert late == []


def test_packets_go_around_a_cut_where_they_may(start):
    wan = start(mesh(), rerouting=True)
    wan.cut("a:b")
    assert_rtt(wan, "a", "b", 20)
    wan.heal()
    assert_rtt(wan, "a", "b", 10)


def test_sites_come_and_go_while_others_go_on(start):
    wan = start(mesh(names="ab"))
    server = wan.listen("b", [(wan.addresses["b"], 5000)])[0]
    talk = "import socket, sys; s = socket.create_connection((sys.argv[1], 5000), 60); s.recv(1); s.sendall(b'y')"
    client = wan.popen("a", [sys.executable, "-c", talk, wan.addresses["b"]])
    connection, _address = server.accept()
    wan.apply(mesh(names="abcd"))
    assert_rtt(wan, "a", "d", 10)
    wan.apply(mesh(names="abd"))
    assert sorted(wan.addresses) == ["a", "b", "d"]
    assert_rtt(wan, "d", "b", 10)
    connection.sendall(b"x")
    assert connection.recv(1) == b"y"
    assert client.wait(30) == 0
    with pytest.raises(AtollError):
        wan.namespace("c")
    connection.close()
    server.close()


def test_loss_reaches_packets_one_by_one(start):
    wan = start(mesh(delay_ms=0, names="ab"))
    wan.set("a:b", {"loss": 0.3}, one_way=True)
    came = sum(echo.rtt_ms is not None for echo in wan.probe([("a", "b")], 1000, 0.001, 2.0)["a", "b"])
    assert 620 <= came <= 780  # five standard deviations


def test_rate_holds_back(start):
    wan = start(mesh(delay_ms=0, names="ab"))
    wan.set("a:b", {"rate_mbit": 1})
    server = wan.listen("b", [(wan.addresses["b"], 5000)])[0]
    send = "import socket, sys; socket.create_connection((sys.argv[1], 5000)).sendall(bytes(250_000))"
    client = wan.popen("a", [sys.executable, "-c", send, wan.addresses["b"]])
    connection, _address = server.accept()
    begun, received = time.monotonic(), 0
    while part := connection.recv(65536):
        received += len(part)
    assert received == 250_000
    assert time.monotonic() - begun >= 1.6  # two seconds, less what the queue held
    assert client.wait(30) == 0
    connection.close()
    server.close()


def outside() -> dict[str, object]:
    """Return the state that a WAN must not change: devices and routes of this network, mounts, and network namespaces in use."""
    spaces = set()
    for entry in Path("/proc").glob("[0-9]*/task/*/ns/net"):
        try:
            spaces.add(entry.readlink())
        except OSError:
            continue
    devices = sorted(line.split(":")[0].strip() for line in Path("/proc/net/dev").read_text(encoding="ascii").splitlines()[2:])
    return {
        "devices": devices,
        "routes": Path("/proc/net/route").read_text(encoding="ascii"),
        "mounts": Path("/proc/mounts").read_text(encoding="ascii"),
        "spaces": spaces,
    }


def space_of(namespace: Namespace) -> Path:
    return Path(namespace.network).readlink()


def test_kill_9_leaves_nothing(start):
    before = outside()
    wan = start(mesh())
    during = outside()
    assert {**during, "spaces": None} == {**before, "spaces": None}
    inside = wan.popen("a", [sys.executable, "-c", "import time; time.sleep(600)"])
    until(lambda: Path(f"/proc/{inside.pid}/ns/net").readlink() == space_of(wan.namespace("a")), "a process in the site")
    daemon = psutil.Process(wan.describe()["pid"])
    for process in (daemon, psutil.Process(inside.pid)):
        process.send_signal(signal.SIGKILL)
    inside.wait()
    await_exit([daemon])
    assert outside()["spaces"] <= before["spaces"]
    assert {**outside(), "spaces": None} == {**before, "spaces": None}
    assert Wan.connect(wan.directory) is None
    again = Wan.start(wan.directory, mesh(), WanOptions(emulator="auto"))
    assert_rtt(again, "a", "b", 10)
    again.close()


def test_end_leaves_nothing_but_the_log(start):
    before = outside()
    wan = start(mesh())
    daemon = psutil.Process(wan.describe()["pid"])
    wan.close()
    await_exit([daemon])
    assert outside() == before
    assert sorted(path.name for path in wan.directory.iterdir()) == ["wan.lock", "wan.log"]
    assert (wan.directory / "wan.log").read_text(encoding="utf-8") == ""


def test_one_directory_has_one_wan(start):
    wan = start(mesh())
    with pytest.raises(AtollError) as caught:
        Wan.start(wan.directory, mesh())
    assert caught.value.kind.code == "state.busy"
    assert_rtt(wan, "a", "b", 10)


def test_two_wans_do_not_meet(start):
    left, right = start(mesh(names="ab")), start(mesh(names="ab"))
    assert left.addresses == right.addresses
    listener = left.listen("b", [(left.addresses["b"], 5000)])[0]
    connect = "import socket, sys; sys.exit(socket.socket().connect_ex((sys.argv[1], 5000)))"
    assert right.popen("a", [sys.executable, "-c", connect, right.addresses["b"]]).wait(30) == 111  # refused: no process listens there
    assert left.popen("a", [sys.executable, "-c", connect, left.addresses["b"]]).wait(30) == 0
    listener.close()


def test_wan_ends_with_the_process_it_is_tied_to(start):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as life:
        wan = start(mesh(), tied_to=life.pid)
        daemon = psutil.Process(wan.describe()["pid"])
        life.kill()
    await_exit([daemon])


def test_wan_is_tied_to_another_process(start):
    with (
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as first,
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as second,
    ):
        wan = start(mesh(), tied_to=first.pid)
        daemon = psutil.Process(wan.describe()["pid"])
        wan.tie(second.pid)
        first.kill()
        assert all(echo.rtt_ms for echo in wan.probe([("a", "b")], count=15)["a", "b"])  # longer than the detection takes
        second.kill()
    await_exit([daemon])


def test_requests_that_make_no_sense(start):
    wan = start(mesh())
    ask_raw = wan._client.ask
    for ask in (lambda: wan.cut("x"), lambda: wan.set("a:b", {"delay_ms": -1}), lambda: ask_raw("dance"), lambda: ask_raw("cut")):
        with pytest.raises(AtollError) as caught:
            ask()
        assert caught.value.kind.code in ("wan.unknown", "wan.invalid")
    assert_rtt(wan, "a", "b", 10)


def test_kernel_emulator_without_netem():
    """Devices, addresses and routes are the same without shaping, so they can be tested on kernels without netem."""
    if not isolation._may_make_networks():
        pytest.skip("only root can do this in its own process")
    addresses, network = Addresses(), chain("abc", routers="b")
    addresses.assign(network.nodes)
    kernel = KernelEmulator(addresses, shape=False)
    for node in network.nodes:
        kernel.add(node)
    for ends, wire in network.wires.items():
        kernel.wire(ends, wire, up=True)
    kernel.route(network.next_hops)
    far = kernel.network("c")
    assert far is not None
    server = within(far, lambda: socket.create_server((str(addresses.of("c")), 5000)))
    client = within(kernel.network("a") or -1, lambda: socket.create_connection((str(addresses.of("c")), 5000), 30))
    connection, (peer, _port) = server.accept()
    assert peer == str(addresses.of("a"))
    kernel.unwire(("b", "c"))
    kernel.unwire(("c", "b"))
    kernel.route(network.without([("b", "c"), ("c", "b")]).next_hops)
    with pytest.raises(OSError, match="unreachable"):
        within(kernel.network("a") or -1, lambda: socket.create_connection((str(addresses.of("c")), 5000), 5))
    for each in (client, connection, server):
        each.close()
    kernel.close()


ORDINARY = """
    import os, sys, tempfile
    from atoll.cloud.network import Network, Node, Wire
    from atoll.wan.client import Wan, WanOptions

    wires = {("a", "b"): Wire(delay_ms=5), ("b", "a"): Wire(delay_ms=5)}
    with tempfile.TemporaryDirectory() as directory:
        wan = Wan.start(directory, Network((Node("a"), Node("b")), wires), WanOptions(emulator="userspace"))
        try:
            assert os.getuid() != 0 and wan.describe()["rootless"]
            assert 10 <= min(echo.rtt_ms or 0 for echo in wan.probe([("a", "b")])["a", "b"])
            listener = wan.listen("b", [(wan.addresses["b"], 80)])[0]
            code = "import os, socket, sys; print(os.getuid()); socket.create_connection((sys.argv[1], 80), 30)"
            process = wan.popen("a", [sys.executable, "-c", code, wan.addresses["b"]], stdout=-1, text=True)
            assert listener.accept()[1][0] == wan.addresses["a"]
            assert process.communicate()[0].strip() == str(os.getuid())
            status = wan.popen("a", ["grep", "CapEff", "/proc/self/status"], stdout=-1, text=True).communicate()[0]
            assert int(status.split()[1], 16) == 0
        finally:
            wan.close()
"""
"""A program of an ordinary user: a WAN in a user namespace, a privileged port, and programs without capabilities."""


def test_ordinary_user(tmp_path_factory):
    code = textwrap.dedent(ORDINARY)
    command = [*ordinary(tmp_path_factory.mktemp("nobody")), sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd="/")
    assert (done.returncode, done.stderr) == (0, "")

"""Links between machines: peer - router - TCP - router - peer, and directly connected peers; slow, cut, frozen and healed."""

import pytest
from stage import ActorError, Stage, free_port, until


class Machines:
    """Two machines and a link between them that a test can cut.

    `kind` tells how they are joined. "routers": each machine has a router. "client calls", "client serves": the calling or serving machine
    has none, and its processes are clients of the other machine's router.
    """

    def __init__(self, stage: Stage, kind: str) -> None:
        self.stage, self._port = stage, free_port()
        self.link = stage.proxy(self._port)
        if kind == "routers":
            self.here_router = stage.router("here", [f"tcp/127.0.0.1:{self._port}"], [])
            self.there_router = stage.router("there", [], [f"tcp/127.0.0.1:{self.link.port}"])
        else:
            self.there_router = stage.router("there" if kind == "client calls" else "here", [f"tcp/127.0.0.1:{self._port}"], [])
        through_router = {"url": f"zenoh://127.0.0.1:{self.link.port}/v", "mode": "client", "socket_dir": "none"}
        self.here = through_router if kind == "client calls" else {"machine": "here"}
        self.there = through_router if kind == "client serves" else {"machine": "there"}
        self.client = stage.process(**self.here, lost_server_timeout=60)

    def server(self, name="s", **given):
        made = self.stage.server(name, **self.there, **given)
        assert self.client.do("call", method="who", server=name, retry=-1) == name
        return made


@pytest.fixture
def machines(stage, request) -> Machines:
    return Machines(stage, getattr(request, "param", "routers"))


each_kind = pytest.mark.parametrize("machines", ["routers", "client calls", "client serves"], indirect=True)


@each_kind
@pytest.mark.parametrize("size", [64 * 1024, 8 * 1024 * 1024])
def test_large_messages_cross_the_link(machines, size):
    machines.server()
    assert machines.client.do("exchange", size=size) == [size, size]


def test_large_messages_cross_both_ways_at_the_same_time(machines):
    """The messages exceed the queues of a link: a router must continue to receive while it waits to send."""
    machines.server()
    machines.stage.server("here", machine="here")
    there = machines.stage.process(machine="there")
    there.do("call", method="who", server="here", retry=-1)
    answers = [process.begin("exchange_at_once", size=512 * 1024, threads=8) for process in (machines.client, there)]
    assert [answer.result(60) for answer in answers] == [[[512 * 1024] * 2] * 8] * 2


@pytest.mark.parametrize("size", [64 * 1024, 8 * 1024 * 1024])
def test_large_messages_on_one_machine(stage, client, size):
    stage.server()
    assert client.do("exchange", size=size) == [size, size]


@each_kind
@pytest.mark.parametrize("how", ["frozen", "reset"])
def test_calls_in_flight_when_the_link_is_cut_return_after_it_heals(machines, how):
    """Begun and not begun, calls and casts: each is executed once, and the callers get their results."""
    stage, client = machines.stage, machines.client
    machines.server(threads=2)
    gate = str(stage.gate("go"))
    begun = [client.begin("call", method="hold", what=f"begun {number}", gate=gate, timeout=600) for number in range(2)]
    stage.await_words("begun 0", "begun 1")
    waiting = [client.begin("call", method="tell", what=f"waiting {number}", timeout=600, retry=-1) for number in range(5)]
    machines.link.freeze()
    if how == "reset":
        machines.link.reset()
    sent = [client.begin("call", method="tell", what=f"sent {number}", timeout=600, retry=-1) for number in range(5)]
    casts = client.begin("tell_each", how="cast", words=[f"cast {number}" for number in range(20)], threads=4, retry=-1)
    until(lambda: is_gone(client), "the server is gone")
    stage.gate("go").touch()  # the replies can't come back now
    until(lambda: len(stage.words()) >= 2)
    machines.link.reset()
    machines.link.heal()
    assert [answer.result(60) for answer in begun] == ["begun 0", "begun 1"]
    assert [answer.result(60) for answer in waiting] == [f"waiting {number}" for number in range(5)]
    assert [answer.result(60) for answer in sent] == [f"sent {number}" for number in range(5)]
    casts.result(60)
    words = [f"{kind} {number}" for kind, count in (("begun", 2), ("waiting", 5), ("sent", 5), ("cast", 20)) for number in range(count)]
    stage.await_words(*words)


def is_gone(client) -> bool:
    try:
        client.do("call", method="who", timeout=0.1)
    except ActorError as error:
        return error.kinds[0] == "NobodyListens"
    return False


def test_link_that_is_cut_for_a_moment_is_not_noticed(machines):
    """Shorter than the lease: TCP delivers the delayed bytes."""
    machines.server()
    machines.link.freeze()
    answers = [machines.client.begin("call", method="tell", what=number) for number in range(20)]
    machines.link.heal()
    assert [answer.result(60) for answer in answers] == list(range(20))
    machines.stage.await_words(*range(20))


def test_fanout_over_a_cut_link_arrives_after_it_heals(machines):
    stage = machines.stage
    machines.server("far")
    stage.server("near", machine="here")
    until(lambda: {machines.client.do("call", method="who", retry=-1) for _ in range(2)} == {"far", "near"})
    machines.link.freeze()
    machines.client.do("cast", method="tell", what="x", fanout=True)
    until(lambda: stage.heard() == ["near x"])
    machines.link.reset()
    machines.link.heal()
    until(lambda: sorted(stage.heard()) == ["far x", "near x"])


def test_caller_hears_when_a_cut_link_does_not_heal(machines):
    client = machines.stage.process(machine="here", lost_server_timeout=1)
    machines.server()
    client.do("call", method="who", retry=-1)
    answer = client.begin("call", method="hold", what="x", gate=str(machines.stage.gate("never")), timeout=3600)
    machines.stage.await_words("x")
    machines.link.freeze()
    with pytest.raises(ActorError, match="ServerLost"):
        answer.result(60)


def test_router_that_is_killed_and_started_again(machines):
    stage, client = machines.stage, machines.client
    machines.server()
    machines.there_router.kill()
    answers = [client.begin("call", method="tell", what=number, timeout=600, retry=-1) for number in range(5)]
    stage.router("there", [], [f"tcp/127.0.0.1:{machines.link.port}"])
    # A peer looks for others when it starts, so the router finds the peers that started before it.
    assert [answer.result(60) for answer in answers] == list(range(5))
    stage.await_words(*range(5))


def test_client_that_starts_before_its_router(stage):
    """A call waits no longer than its timeout; a server, and a sender that asks for retries, wait for the router."""
    port = free_port()
    through_router = {"url": f"zenoh://127.0.0.1:{port}/v", "mode": "client", "socket_dir": "none", "retry_interval": 0.1}
    caller, server = stage.process(**through_router), stage.process(**through_router)
    serves = server.begin("serve", server="s")
    with pytest.raises(ActorError, match=f"no router answers at 127.0.0.1:{port}"):
        caller.do("call", method="who", timeout=0.5)
    with pytest.raises(ActorError, match="Unreachable"):
        caller.do("cast", method="who")
    waits = [caller.begin("call", method="tell", what=number, retry=-1) for number in range(3)]
    stage.router("there", [f"tcp/127.0.0.1:{port}"], [])
    serves.result(60)
    assert [answer.result(60) for answer in waits] == [0, 1, 2]
    stage.await_words(0, 1, 2)
    assert [line for line in server.do("log") if "trying again" in line], "the server must log that it waits for its router"


def test_peers_connect_directly_to_the_endpoints_of_the_url(stage):
    port = free_port()
    stage.server("s", machine="there", listen=[f"tcp/127.0.0.1:{port}"])
    link = stage.proxy(port)
    for mode in ("peer", "client"):
        client = stage.process(f"zenoh://127.0.0.1:{link.port}/v", machine=f"here-{mode}", mode=mode)
        assert client.do("call", method="who", retry=-1) == "s"
        answer = client.begin("call", method="tell", what=mode, timeout=600, retry=-1)
        link.reset()
        assert answer.result(60) == mode
    stage.await_words("peer", "client")


def test_nearest_server_is_preferred(machines):
    """Through a link that delays each message, a server is farther than its twin on this machine."""
    stage, client = machines.stage, machines.stage.process(machine="here", selection="nearest")
    machines.link.delay_s = 0.05
    machines.server("far")
    stage.server("near", machine="here")
    until(lambda: {client.do("call", method="who", server=name, retry=-1) for name in ("far", "near")} == {"far", "near"})
    assert {who(client) for _ in range(20)} == {"near"}
    assert [client.do("call", method="who", server="far", retry=-1), *(who(client) for _ in range(20))] == ["far", *["near"] * 20]


def who(client) -> str:
    return client.do("call", method="who", retry=-1)


def test_another_virtual_host_is_another_bus(machines):
    machines.server()
    other = machines.stage.process("zenoh:///other", machine="here")
    with pytest.raises(ActorError, match="NobodyListens"):
        other.do("call", method="who")

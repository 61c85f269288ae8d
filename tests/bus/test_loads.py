"""Large numbers of topics, threads and casts; and slow servers."""

import signal

import pytest
from stage import ActorError, until


def test_a_thousand_topics_in_one_process(stage, client):
    server = stage.process()
    server.do("serve_topics", count=1000)
    assert client.do("ask_topics", count=1000) == [f"t{number}" for number in range(1000)]


def test_two_hundred_threads_call(stage, client):
    for name in "ab":
        stage.server(name)
    until(lambda: {client.do("call", method="who", retry=-1) for _ in range(2)} == {"a", "b"})
    assert client.do("ask_from_threads", threads=200, each=10) == 2000


def test_many_casts_wait_for_a_slow_server(stage, client):
    """The casts are acknowledged before they are begun, and executed in the order in which the sender's thread sent them."""
    stage.server(threads=1)
    client.do("cast", method="hold", what="slow", gate=str(stage.gate("go")))
    client.do("tell_each", how="cast", words=list(range(2000)))
    assert stage.words() == ["slow"]
    stage.gate("go").touch()
    until(lambda: len(stage.words()) == 2001)
    assert stage.words() == ["slow", *map(str, range(2000))]


def test_call_that_takes_longer_than_the_questions_interval_is_executed_once(stage):
    client = stage.process(question_interval=0.05)
    stage.server(threads=4)
    gate = stage.gate("go")
    calls = [client.begin("call", method="hold", what=number, gate=str(gate), timeout=600) for number in range(20)]
    until(lambda: len(stage.words()) == 4)
    with pytest.raises(ActorError, match="MessagingTimeout"):  # a second of questions, meanwhile
        client.do("call", method="who", timeout=1)
    gate.touch()
    assert [call.result(60) for call in calls] == list(range(20))
    stage.await_words(*range(20))


def test_heartbeats_keep_a_long_call_alive(stage, client):
    """The call takes longer than its monitor timeout, which only a lost server exceeds."""
    server = stage.server(threads=2)
    gate = stage.gate("go")
    call = client.begin("call", method="hold", what="x", gate=str(gate), timeout=600, monitor=2)
    silent = client.begin("call", method="hold", what="y", gate=str(gate), timeout=4)
    with pytest.raises(ActorError, match="MessagingTimeout"):
        silent.result(60)
    assert not call.done(), "the call must still wait after 4 s without a reply"
    gate.touch()
    assert call.result(60) == "x"
    assert server.do("log") == []


def test_call_without_heartbeats_ends_after_its_monitor_timeout(stage):
    client = stage.process(lost_server_timeout=3600, lease=3600)
    server = stage.server(lease=3600)
    call = client.begin("call", method="hold", what="x", gate=str(stage.gate("never")), timeout=3600, monitor=1)
    stage.await_words("x")
    server.signal(signal.SIGSTOP)
    with pytest.raises(ActorError, match="MessagingTimeout"):
        call.result(60)


def test_clients_of_many_processes(stage):
    stage.server()
    clients = [stage.process() for _ in range(10)]
    answers = [
        client.begin("tell_each", how="call", words=[f"{index}.{number}" for number in range(50)], threads=4, retry=-1)
        for index, client in enumerate(clients)
    ]
    for answer in answers:
        answer.result(60)
    stage.await_words(*(f"{index}.{number}" for index in range(10) for number in range(50)))

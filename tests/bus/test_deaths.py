"""Servers that are killed, restarted, stopped and frozen."""

import signal

import pytest
from stage import ActorError, until


@pytest.fixture
def journal(stage) -> dict[str, str]:
    return {"journal_dir": str(stage.directory / "journals")}


def error_of(answer) -> ActorError:
    with pytest.raises(ActorError) as caught:
        answer.result(60)
    return caught.value


def test_caller_of_a_killed_server_hears_of_it_soon(stage):
    client = stage.process(lost_server_timeout=0.5)
    server = stage.server()
    answer = client.begin("call", method="hold", what="x", gate=str(stage.gate("never")), timeout=3600)
    stage.await_words("x")
    server.kill()
    error = error_of(answer)
    assert error.kinds[0] == "ServerLost"
    assert "MessagingTimeout" in error.kinds
    assert "the message may have been executed" in error.text


def test_successor_with_the_journal_answers_immediately(stage, client, journal):
    client = stage.process(lost_server_timeout=3600)
    server = stage.server(**journal)
    answer = client.begin("call", method="hold", what="x", gate=str(stage.gate("never")), timeout=3600)
    stage.await_words("x")
    server.kill()
    stage.server(**journal)
    assert error_of(answer).kinds[0] == "ServerLost"
    assert stage.words() == ["x"]


def test_unbegun_messages_are_executed_once_by_the_successor(stage, client, journal):
    server = stage.server(threads=1, **journal)
    client.do("cast", method="hold", what="first", gate=str(stage.gate("never")))
    stage.await_words("first")
    client.do("tell_each", how="cast", words=list(range(20)))
    calls = [client.begin("call", method="tell", what=f"call {number}") for number in range(5)]
    fanout = client.begin("cast", method="tell", what="all", fanout=True)
    fanout.result(60)
    server.kill()
    stage.server(**journal)
    assert [call.result(60) for call in calls] == [f"call {number}" for number in range(5)]
    stage.await_words("first", "all", *range(20), *(f"call {number}" for number in range(5)))


def test_killed_again_and_again(stage, client, journal):
    """Each life dies with unfinished messages; nothing that was acknowledged is lost, nothing is executed twice."""
    threads = 2
    server = stage.server(threads=threads, **journal)
    acknowledged = set()
    for life in range(5):
        heard = len(stage.words())
        answer = client.begin("cast_each", words=list(range(100 * life, 100 * life + 100)), threads=4)
        until(lambda heard=heard: len(stage.words()) > heard + 10)
        server.kill()
        server = stage.server(threads=threads, **journal)
        acknowledged |= set(map(str, answer.result(60)))
    # Casts that were begun, and whose server was killed before the word was in the file: one for each thread of each life.
    until(lambda: len(acknowledged - set(stage.words())) <= threads * 5)
    server.do("stop", server="s")
    assert len(stage.words()) == len(set(stage.words())), "a word was executed twice"
    assert len(acknowledged) >= 500 - 4 * 5, "only casts that were under way at a kill may have failed"


def test_without_a_journal_the_next_cast_goes_to_the_next_server(stage, client):
    server = stage.server("a")
    client.do("cast", method="tell", what=1)
    stage.await_words(1)
    server.kill()
    stage.server("b")
    client.do("cast", method="tell", what=2, retry=-1)
    stage.await_words(1, 2)


def test_graceful_restarts_under_load(stage):
    """Nothing fails, is lost or executed twice, though for a moment no server is present."""
    client = stage.process(default_retries=-1, retry_interval=0.1)
    server = stage.process()
    server.do("serve", server="s")
    load = [
        client.begin("tell_each", how=how, words=[f"{how} {number}" for number in range(600)], threads=4, timeout=60)
        for how in ("call", "cast")
    ]
    for _ in range(4):
        heard = len(stage.heard())
        until(lambda heard=heard: len(stage.heard()) >= heard + 50 or all(answer.done() for answer in load))
        server.do("stop", server="s")
        server.do("serve", server="s")
    assert load[0].result(60) == [f"call {number}" for number in range(600)]
    load[1].result(60)
    stage.await_words(*(f"{how} {number}" for how in ("call", "cast") for number in range(600)))


def test_servers_come_and_go_and_each_gets_its_share(stage):
    client = stage.process(lost_server_timeout=0.2)
    servers = {name: stage.server(name) for name in "abc"}
    answers = [client.do("call", method="who") for _ in range(30)]
    assert {name: answers.count(name) for name in "abc"} == dict.fromkeys("abc", 10)
    servers["b"].do("stop", server="b")
    assert {client.do("call", method="who") for _ in range(10)} == {"a", "c"}
    servers["c"].kill()
    until(lambda: {who(client) for _ in range(2)} == {"a"})
    stage.server("d")
    until(lambda: {client.do("call", method="who") for _ in range(2)} == {"a", "d"})


def test_fanout_reaches_a_frozen_process_when_it_goes_on(stage, client):
    servers = [stage.server(name, lease=30) for name in "abc"]
    client.do("cast", method="tell", what="before", fanout=True)
    until(lambda: len(stage.heard()) == 3)
    servers[1].signal(signal.SIGSTOP)
    client.do("cast", method="tell", what="meanwhile", fanout=True)
    until(lambda: len(stage.heard()) == 5)
    assert "b meanwhile" not in stage.heard()
    servers[1].signal(signal.SIGCONT)
    until(lambda: "b meanwhile" in stage.heard())
    assert sorted(stage.heard()) == sorted(f"{name} {word}" for name in "abc" for word in ("before", "meanwhile"))


def test_fanout_reaches_a_process_that_was_frozen_for_longer_than_the_lease(stage):
    client = stage.process(lease=0.5)
    server = stage.server("a", lease=0.5)
    client.do("cast", method="tell", what="before", fanout=True)
    stage.await_words("before")
    server.signal(signal.SIGSTOP)
    client.do("cast", method="tell", what="meanwhile", fanout=True)
    until(lambda: gone(client))
    server.signal(signal.SIGCONT)
    stage.await_words("before", "meanwhile")


def test_fanout_that_a_killed_server_had_not_received_reaches_its_successor(stage, client, journal):
    server = stage.server(lease=30, **journal)
    client.do("cast", method="tell", what="before", fanout=True)
    stage.await_words("before")
    server.signal(signal.SIGSTOP)
    client.do("cast", method="tell", what="meanwhile", fanout=True)
    server.kill()
    stage.server(**journal)
    stage.await_words("before", "meanwhile")


def who(client) -> str:
    """Return the name of the server that answered, or the error: a call may go to a server that is just being killed."""
    try:
        return client.do("call", method="who")
    except ActorError as error:
        return error.kinds[0]


def gone(client) -> bool:
    try:
        client.do("call", method="who", timeout=0.2)
    except ActorError as error:
        return error.kinds[0] == "NobodyListens"
    return False


def test_frozen_server_answers_when_it_goes_on(stage, client):
    server = stage.server("a", lease=30)
    client.do("call", method="who")
    server.signal(signal.SIGSTOP)
    answers = [client.begin("call", method="tell", what=number) for number in range(10)]
    stage.server("b")
    assert client.do("call", method="who", server="b", retry=-1) == "b"
    server.signal(signal.SIGCONT)
    assert [answer.result(60) for answer in answers] == list(range(10))
    stage.await_words(*range(10))

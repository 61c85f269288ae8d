import pytest

from atoll.bench import churn
from atoll.bench.churn import HOLD, AnswerTally, ChurnClient, ChurnOutcome
from atoll.bench.leaks import Leaks
from atoll.errors import AtollError


def test_tally_tells_errors_from_what_a_client_may_meet():
    tally = AnswerTally()
    for status in (200, 202, 404, 409, 400, 500, 503):
        tally.answer("GET", "compute /servers", status, b"why: \xff" + bytes(1000))
    tally.silence("connection reset")
    outcome = tally.outcome()
    assert (outcome.operations, outcome.errors_5xx, outcome.errors_other) == (8, 2, 2)
    assert [each.split(":")[:2] for each in outcome.examples] == [["GET compute /servers", f" {status} why"] for status in (400, 500, 503)]
    assert max(map(len, outcome.examples)) < 400


def test_outcome_names_what_is_bad():
    assert ChurnOutcome(operations=1000).bad == []
    bad = ChurnOutcome(1000, locked=2, leaks=Leaks(servers=0, ports=1, allocations=0)).bad
    assert bad == ["locked: 2", "leaked_ports: 1"]


def test_client_holds_few_things_and_leaves_none(api, tenancy):
    client = ChurnClient(api, tenancy, "client", seed=1)
    for _step in range(300):
        client.step()
        assert len(api.servers) <= HOLD
    client.finish()
    assert api.servers == {}
    done = {(service, method) for service, method, _path in api.requests}
    assert done >= {("compute", "POST"), ("compute", "GET"), ("compute", "DELETE"), ("network", "POST"), ("network", "DELETE")}


def test_clients_of_one_seed_do_the_same(api, tenancy):
    for _time in range(2):
        client = ChurnClient(api, tenancy, "client", seed=7)
        for _step in range(30):
            client.step()
        client.finish()
    half = len(api.requests) // 2
    assert [request[:2] for request in api.requests[:half]] == [request[:2] for request in api.requests[half:]]


def test_client_notices_servers_in_error(api, tenancy):
    client = ChurnClient(api, tenancy, "client", seed=1)
    api.broken.add("client-1")
    client._create_server()
    client._show()
    assert (client.failed_servers, api.servers) == (1, {})


@pytest.mark.parametrize("error", [ConnectionResetError("reset"), AtollError("bench.failed", "HTTP 500")])
def test_silence_does_not_end_a_client(error):
    tally = AnswerTally()

    def fail():
        raise error

    churn._guarded(fail, tally)
    assert tally.outcome().examples == [str(error)]


def test_locked_databases_are_found_in_logs(tmp_path):
    (tmp_path / "nova.log").write_text("a\nOperationalError: database is locked\ndatabase is locked\n")
    (tmp_path / "glance.log").write_text("fine\n")
    assert churn._count(tmp_path) == 2

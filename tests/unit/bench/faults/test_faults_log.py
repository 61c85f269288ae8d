import http.client
import json
from contextlib import closing

import pytest

from atoll.bench.api import Answer
from atoll.bench.faults.client import judged, judged_error
from atoll.bench.faults.log import Log, read
from atoll.bench.faults.operation import Operation


def test_a_request_and_its_answer_are_one_attempt(tmp_path):
    with closing(Log(tmp_path / "log")) as log:
        log.sent("paris/0", 1, Operation(1.0, "user.create", "user-1", {"name": "a"}), "")
        log.sent("paris/0", 2, Operation(2.0, "user.delete", "user-2", {}), "id-2")
        log.answered("paris/0", 1, "acknowledged", "201", "id-1")
    first, second = read([tmp_path / "log"])
    assert (first.outcome, first.id, first.fields) == ("acknowledged", "id-1", {"name": "a"})
    assert (first.site, first.type, first.verb) == ("paris", "user", "create")
    assert first.answered_s is not None
    assert first.answered_s >= first.sent_s
    # The client was killed or still waits: the request may have been executed.
    assert (second.outcome, second.id, second.answered_s) == ("unknown", "id-2", None)


def test_a_line_is_on_the_disk_before_the_request_is_made(tmp_path):
    with closing(Log(tmp_path / "log")) as log:
        log.sent("paris/0", 1, Operation(1.0, "image.create", "image-1", {}), "")
        assert json.loads((tmp_path / "log").read_text())["resource"] == "image-1"


STATUSES = {"acknowledged": (200, 202, 204), "failed": (400, 404, 409), "unknown": (500, 502, 503, 504)}


@pytest.mark.parametrize(("outcome", "status"), [(outcome, status) for outcome, statuses in STATUSES.items() for status in statuses])
def test_outcomes_by_status(status, outcome):
    assert judged(Answer(status, None, {})) == outcome


def test_a_request_without_a_connection_failed_and_any_other_is_unknown():
    assert judged_error(ConnectionRefusedError()) == "failed"
    for error in (TimeoutError(), ConnectionResetError(), BrokenPipeError(), http.client.RemoteDisconnected(""), OSError()):
        assert judged_error(error) == "unknown"

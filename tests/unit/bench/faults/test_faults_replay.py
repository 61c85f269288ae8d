"""Runs that are kept in a directory."""

import json

import pytest

from atoll.bench.faults.log import Attempt
from atoll.bench.faults.replay import LOG, SCHEDULE, keep, kept_evidence, kept_schedule
from atoll.bench.faults.schedule import schedule
from atoll.bench.faults.view import View
from atoll.errors import AtollError

PLAN = schedule(1, 60, ("paris", "lyon"), 1)
ATTEMPT = Attempt("paris/0", 1, "user.create", "user-1", {"name": "user-1"}, "u1", 1.0, 2.0, "acknowledged", "201")


@pytest.fixture
def kept(tmp_path):
    keep(tmp_path / "run", PLAN, [ATTEMPT], [View("paris")], [View("paris", error="off")])
    return tmp_path / "run"


def test_a_kept_run_is_read_as_it_was(kept):
    assert kept_schedule(kept) == PLAN
    attempts, before, after = kept_evidence(kept)
    assert attempts == [ATTEMPT]
    assert [(view.site, view.error) for view in (*before, *after)] == [("paris", ""), ("paris", "off")]


def test_a_run_that_an_earlier_version_kept_is_read(kept):
    for name in (SCHEDULE, LOG):
        (kept / name).write_text((kept / name).read_text().replace('"resource":', '"thing":'))
    assert '"thing"' in (kept / LOG).read_text()
    assert kept_schedule(kept) == PLAN
    assert kept_evidence(kept)[0] == [ATTEMPT]


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"clients": []})])
def test_a_directory_without_a_run(kept, content):
    (kept / SCHEDULE).write_text(content)
    with pytest.raises(AtollError, match="holds no run"):
        kept_schedule(kept)

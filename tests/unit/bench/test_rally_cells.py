"""A workload of Rally in a cell: prepared resources, one process at each chosen site, and all of its results."""

import json
import sys
import time

import pytest

from atoll.bench import rally_workload
from atoll.bench.cell_workloads import CellRecorder, Place
from atoll.bench.rally_workload import RallySetting, prepare
from atoll.errors import AtollError
from atoll.rally import tasks

PARAMETERS = {"rally": "Authenticate.keystone", "args": {}, "contexts": {}, "runner": None, "times": 1, "concurrency": 1, "at": "first"}

PROGRAM = """
import json, os, sys, time
work = json.load(open(sys.argv[1]))
behaviour = {behaviour!r}
if behaviour == "crash":
    raise SystemExit("no memory")
open(work["begun"], "w").close()
iteration = {{"timestamp": time.time(), "duration": 0.5, "error": [], "atomic_actions": []}}
workload = {{"scenario": {{"Authenticate.keystone": {{}}}}, "runner": {{"constant": {{"times": 1}}}}, "contexts_results": []}}
workload["data"] = [] if behaviour == "lost" else [iteration]
json.dump({{"tasks": [{{"subtasks": [{{"workloads": [workload]}}]}}]}}, open(work["report"], "w"))
invalid = behaviour == "invalid"
outcome = {{"status": "validation_failed" if invalid else "finished", "error": "x\\n\\nReason(s):\\n no  flavor" if invalid else ""}}
json.dump(outcome, open(sys.argv[2], "w"))
"""


class MemoryApi:
    """A signed-in client of a cloud that has one flavor already."""

    def __init__(self) -> None:
        self.asked = []

    def credentials(self):
        user = {"name": "admin", "password": "secret", "domain": {"id": "default"}}
        return {"auth": {"identity": {"password": {"user": user}}, "scope": {"project": {"name": "admin"}}}}

    def endpoint(self, _service):
        return "http://192.0.2.1/identity/v3"

    def expect(self, _service, method, path, body=None, data=None):
        self.asked.append((method, path, body))
        return {"id": "1", "network": {"id": "1"}, "flavors": [{"name": tasks.FLAVOR}]}


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Return a function that runs the workload with a Rally of the given behaviour; it returns the samples."""

    def run(behaviour="", places=("paris", "lyon"), **changes):
        words = [sys.executable, "-c", PROGRAM.format(behaviour=behaviour)]
        monkeypatch.setattr(rally_workload.environment, "command", lambda _python, _verb, *files: [*words, *map(str, files)])
        rows, found = [], [Place(site, MemoryApi(), None) for site in places]
        recorder = CellRecorder(lambda *fields: rows.append(fields))
        rally_workload.run(RallySetting(tmp_path / "python", tmp_path / "rally"), found, recorder, {**PARAMETERS, **changes}, 0)
        return rows

    return run


def test_rally_works_at_the_first_site(run, tmp_path):
    before = time.time()
    ((name, site, intended, started, ended, ok, error),) = run()
    assert (name, site, ok, error) == ("Authenticate.keystone", "paris", True, "")
    assert intended == started
    assert ended - started == pytest.approx(0.5)
    assert -10 < started < time.time() - before
    directory = tmp_path / "rally" / "paris"
    work = json.loads((directory / "work.json").read_text(encoding="utf-8"))
    assert work["platform"]["admin"]["password"] == "secret"
    assert work["task"]["subtasks"][0]["title"] == "Authenticate.keystone"
    assert work["database"] == str(directory / "rally.sqlite")
    assert (directory.parent.stat().st_mode & 0o077) == 0, "the database has the password of the cloud"
    assert not (directory / tasks.IMAGE_FILE).exists()


def test_rally_works_at_each_site(run):
    assert sorted(row[1] for row in run(at="each")) == ["lyon", "paris"]


def test_the_task_of_a_file_is_run_as_it_is(run, tmp_path):
    run(task={"version": 2})
    work = json.loads((tmp_path / "rally" / "paris" / "work.json").read_text(encoding="utf-8"))
    assert work["task"] == {"version": 2}
    assert work["supply"] is None


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("crash", "Rally at paris failed: no memory"),
        ("invalid", "Rally at paris: no flavor"),
        ("lost", "Rally at paris: Authenticate.keystone: 0 of 1 iterations ran"),
    ],
)
def test_a_rally_that_fails_fails_the_cell(run, behaviour, reason):
    with pytest.raises(AtollError, match=reason):
        run(behaviour)


def test_files_of_an_earlier_attempt_are_deleted(run, tmp_path):
    old = tmp_path / "rally" / "old"
    old.mkdir(parents=True)
    run()
    assert not old.exists()


def test_resources_for_scenarios_are_prepared():
    api = MemoryApi()
    prepare(api)
    made = {path: body for method, path, body in api.asked if method == "POST"}
    assert made["/v2/images"]["visibility"] == "public"
    assert made["/flavors"]["flavor"]["name"] == tasks.LARGER_FLAVOR, "the other one exists"
    assert made["/v2.0/networks"]["network"]["router:external"] is True
    assert made["/v2.0/subnets"]["subnet"]["enable_dhcp"] is False

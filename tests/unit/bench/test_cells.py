"""A cell's cloud: started, joined, worked in and destroyed, with users in the networks of full sites and compute sites."""

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from atoll.bench import cells
from atoll.bench.cells import Records, Work, places, run_cell
from atoll.bench.own_cloud import OwnCloud
from atoll.bench.rally_workload import RallySetting
from atoll.cloud import Cloud
from atoll.errors import AtollError
from atoll.services.database_servers import FlushPolicy

SITES = [{"name": "paris", "compute": "fake"}, {"name": "lyon", "compute": "fake", "kind": "compute", "control": "paris"}]
DOCUMENT = {"name": "x", "sites": SITES, "topology": {"preset": "mesh"}}


class MemoryCloud:
    """A cloud whose sites have networks with numbers, and clients that know theirs."""

    def __init__(self, *_arguments) -> None:
        self.joined = False

    def await_joined(self):
        self.joined = True

    def api(self, site):
        return f"api of {site}"

    def network(self, site):
        return {"paris": 1, "lyon": 2}[site]

    def settings(self, site):
        return SimpleNamespace(public_url=lambda service, path: f"http://{site}/{service}{path}", secrets={"admin": "secret"})


class FarApi:
    """Remembers how it was made."""

    def __init__(self, network, url, password) -> None:
        self.made = (network, url, password)

    def sign_in(self):
        self.signed_in = True


class NoSampler:
    """Takes no readings; remembers that the measured operations began."""

    def __init__(self) -> None:
        self.begun = False

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        pass

    def begin(self):
        self.begun = True

    def facts(self, _seconds):
        return {"sampler_share": 0.001} if self.begun else {}


@pytest.fixture
def events(monkeypatch):
    told = []

    @contextmanager
    def workspace(_environment, _say):
        told.append("workspace")
        try:
            yield SimpleNamespace(root=Path("root"))
        finally:
            told.append("cleaned")

    @contextmanager
    def own_cloud(root, document, environment, companions):
        told.extend(companions)
        told.append(("up", str(root), document["name"]))
        told.extend(sorted(environment))
        try:
            yield OwnCloud(SimpleNamespace(root="state"), "log", 12.3456)
        finally:
            told.append("destroyed")

    monkeypatch.setattr(cells, "workspace", workspace)
    monkeypatch.setattr(cells, "own_cloud", own_cloud)
    monkeypatch.setattr(cells, "MeasuredCloud", MemoryCloud)
    monkeypatch.setattr(cells, "SiteApi", FarApi)
    monkeypatch.setattr(cells, "sampler", lambda *_arguments: NoSampler())
    monkeypatch.setattr(cells.command, "pids", lambda _state: [])
    monkeypatch.setattr(cells, "flush_policy", lambda _settings: FlushPolicy("fsync=on", each_commit=True))
    return told


def run(work, record=lambda *_fields: None):
    return run_cell(work, {}, Records(record), lambda _text: None)


def test_users_are_in_the_networks_of_their_sites(events):
    made: Any = places(MemoryCloud(), Cloud.model_validate(DOCUMENT))
    near, far = made
    assert (near.site, near.api, near.host) == ("paris", "api of paris", "paris")
    assert (far.site, far.host, far.api.made) == ("lyon", "lyon", (2, "http://paris/identity/v3", "secret"))
    assert far.api.signed_in
    assert (near.network, far.network) == (1, 2)


def test_a_full_site_among_full_sites_names_no_host(events):
    cloud = Cloud.model_validate({**DOCUMENT, "sites": SITES[:1]})
    assert [place.host for place in places(MemoryCloud(), cloud)] == [None]


def test_a_cell_is_run_and_leaves_nothing(events, monkeypatch):
    def work(found, recorder, parameters, seed):
        events.append(([place.site for place in found], parameters, seed))
        recorder.begin()
        recorder.measure("list", "paris", lambda: None)

    monkeypatch.setitem(cells.WORKLOADS, "list", work)
    rows = []
    facts = run(Work(DOCUMENT, "list", {"times": 1}, 7), lambda *fields: rows.append(fields))
    assert events == ["workspace", ("up", "root", "x"), (["paris", "lyon"], {"times": 1}, 7), "destroyed", "cleaned"]
    assert facts == {"up_s": 12.346, "memory_mb": 0, "flush": "fsync=on", "flushes_each_commit": True, "sampler_share": 0.001}
    assert [row[:2] for row in rows] == [("list", "paris")]


def test_a_workload_that_fails_leaves_nothing(events, monkeypatch):
    def work(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setitem(cells.WORKLOADS, "list", work)
    with pytest.raises(KeyboardInterrupt):
        run(Work(DOCUMENT, "list", {"times": 1}, 7))
    assert events[-2:] == ["destroyed", "cleaned"]


def test_an_unknown_workload_starts_nothing(events):
    with pytest.raises(AtollError, match="no workload is called lists"):
        run(Work(DOCUMENT, "lists", {}, 0))
    assert events == []


def test_faults_begin_with_the_measured_operations_and_end_with_the_workload(events, monkeypatch):
    class MemorySetting:
        environment: ClassVar = {"LD_PRELOAD": "clocks"}
        companions: ClassVar = ["disks"]

        @contextmanager
        def conducted(self, _own, cloud, _broker, record, _say):
            events.append(("conductor", cloud.site_names))
            yield SimpleNamespace(begin=lambda: events.append("begun"), finish=lambda: events.append("finished"))
            record("a fault")

    def work(_found, recorder, _parameters, _seed):
        events.append("caches are full")
        recorder.begin()
        events.append("work")

    monkeypatch.setattr(cells, "prepare", lambda _root, faults: events.append(faults) or MemorySetting())
    monkeypatch.setitem(cells.WORKLOADS, "list", work)
    rows, steps = [], [{"kind": "cut"}]
    run_cell(Work(DOCUMENT, "list", {}, 7, steps), {}, Records(lambda *_fields: None, rows.append), lambda _text: None)
    assert events[1:6] == [steps, "disks", ("up", "root", "x"), "ATOLL_PROCESS_HOOK", "LD_PRELOAD"]
    assert events[6:11] == [("conductor", ("paris", "lyon")), "caches are full", "begun", "work", "finished"]
    assert rows == ["a fault"]


def test_users_of_regions_wait_for_no_other_site(events, monkeypatch):
    @contextmanager
    def brokered(made, ask):
        events.append((ask, made.joined))
        yield {"paris": "brokered api"}

    found = []
    monkeypatch.setattr(cells, "brokered", brokered)
    monkeypatch.setitem(cells.WORKLOADS, "list", lambda places, *_rest: found.extend(places))
    run_cell(Work(DOCUMENT, "list", {}, 7, broker="serial"), {}, Records(lambda *_fields: None), lambda _text: None)
    assert ("serial", False) in events
    assert {"ATOLL_ALONE", "ATOLL_PROCESS_HOOK"} <= set(map(str, events))
    assert [(place.site, place.api, place.alone) for place in found] == [("paris", "brokered api", True)]


def test_databases_that_flush_otherwise_than_the_others_fail_the_cell(events, monkeypatch):
    monkeypatch.setitem(cells.WORKLOADS, "list", lambda *_arguments: None)
    monkeypatch.setattr(cells, "flush_policy", lambda _settings: FlushPolicy("synchronous_commit=off", each_commit=False))
    with pytest.raises(
        AtollError, match=r"the database of paris \(synchronous_commit=off\) does not flush commits as `durability` requires: expected each"
    ):
        run(Work(DOCUMENT, "list", {}, 7))
    relaxed = {**DOCUMENT, "sites": [{**SITES[0], "durability": "relaxed"}]}
    assert run(Work(relaxed, "list", {}, 7))["flushes_each_commit"] is False


def test_the_owner_of_a_shared_database_tells_when_it_flushes(events, monkeypatch):
    asked = []
    shared = [{"name": "paris", "database": {"start": "redis"}}, {"name": "lyon", "database": {"of": "paris"}}]
    monkeypatch.setattr(MemoryCloud, "settings", lambda _self, name: asked.append(name))
    monkeypatch.setitem(cells.WORKLOADS, "list", lambda *_arguments: None)
    monkeypatch.setattr(cells, "places", lambda *_arguments: [])
    assert run(Work({**DOCUMENT, "sites": shared}, "list", {}, 7))["flush"] == "fsync=on"
    assert asked == ["paris"], "no other site's account may read the server's settings"


def test_a_broker_of_a_site_runs_beside_the_cloud(events, monkeypatch):
    class MemoryBroker:
        def __init__(self, root, site, document, _environment) -> None:
            events.append(("broker", root.name, site, document["name"]))

        def document(self, cloud):
            return {**cloud, "name": "with-password"}

        def pids(self):
            return []

        def __eq__(self, other):
            return other == "broker"

        __hash__ = None

    monkeypatch.setattr(cells, "SiteBroker", MemoryBroker)
    monkeypatch.setitem(cells.WORKLOADS, "list", lambda *_arguments: None)
    run(Work(DOCUMENT, "list", {}, 7, rabbitmq="paris"))
    assert events[1:4] == [("broker", "root", "paris", "x"), "broker", ("up", "root", "with-password")]


def test_rally_runs_a_workload_with_its_setting(events, monkeypatch):
    setting = RallySetting(Path("python"), Path("files"))

    def work(given, found, _recorder, parameters, seed):
        events.append((given, [place.site for place in found], parameters, seed))

    monkeypatch.setattr(cells.rally_workload, "run", work)
    run(Work(DOCUMENT, "my-tokens", {"rally": "Authenticate.keystone"}, 7, rally=setting), lambda *_fields: None)
    assert (setting, ["paris", "lyon"], {"rally": "Authenticate.keystone"}, 7) in events

import subprocess
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from atoll.bench import site, workload
from atoll.bench.leaks import Leaks
from atoll.bench.site import SiteOptions, Sites, run
from atoll.bench.target import Target
from atoll.bench.workspace import Workspace
from atoll.errors import AtollError


class FakeSites:
    """Sites that start in as many seconds as their number, and use one megabyte each."""

    latest: ClassVar[Any]

    def __init__(self, _root, _count, environment):
        self.running = 0
        self.done = []
        FakeSites.latest = self
        self.environment = environment

    def up(self, number, others=()):
        self.done.append(" ".join([f"up {number}", *others]))
        self.running = number
        return float(number)

    def stop(self):
        self.done.append("stop")

    def destroy(self):
        self.done.append("destroy")

    def target(self, number=1):
        return Target("http://127.0.0.1:1/v3", "secret", f"site-{number}", self.pids)

    def named(self, name):
        return Target("http://127.0.0.1:1/v3", "secret", name, self.pids)

    def pids(self):
        return list(range(self.running))


@pytest.fixture
def fakes(monkeypatch, api):
    api.sign_in = lambda: None
    monkeypatch.setattr(site, "Sites", FakeSites)
    monkeypatch.setattr(Target, "api", lambda _self: api)
    monkeypatch.setattr(site, "memory_mb", lambda pids: 100.0 + 20.0 * len(pids))
    monkeypatch.setattr(site, "processor_percent", lambda _pids, _seconds: 3.0)
    monkeypatch.setattr(site, "_templates_exist", lambda: True)
    monkeypatch.setattr("atoll.bench.site.count_leaks", lambda _api: Leaks(0, 0, 0))
    return api


SMALL = SiteOptions(sites=3, servers=4, at_once=2, boots=2, settle_s=0, idle_s=0)


def test_the_whole_experiment(fakes, tmp_path):
    numbers = run(SMALL, Workspace(tmp_path, {}, lambda _text: None))
    assert FakeSites.latest.done == ["up 1", "stop", "up 1", "up 2", "up 3", "up 3 full relaxed"]
    assert (numbers["first_site_s"], numbers["next_site_s"], numbers["samples"]["next_site_s"]) == (1.0, 2.5, [2.0, 3.0])
    assert (numbers["total_pss_mb"], numbers["site_pss_mb"], numbers["next_site_mb"]) == (160.0, 53.3, 20.0)
    assert (numbers["idle_cpu_percent"], numbers["processes"]) == (1.0, 3)
    assert numbers["boots_per_min"] > 0
    assert "first_site_no_template_s" not in numbers


def test_durabilities_are_compared_in_turns(fakes, tmp_path, monkeypatch):
    seconds = {"full": iter([9.0, 1.0, 3.0]), "relaxed": iter([9.0, 2.0, 2.0])}
    turns = []

    def boot(api, tenancy, name, poll_s=workload.POLL_S):
        durability = name.partition("-")[0]
        if durability not in seconds:
            return "server", 1.0
        turns.append(durability)
        return "server", next(seconds[durability])

    monkeypatch.setattr(workload, "boot", boot)
    monkeypatch.setattr(workload, "delete", lambda _api, _servers: None)
    monkeypatch.setattr(workload, "boot_many", lambda *_: 1.0)
    numbers = run(SiteOptions(boots=2, servers=1, settle_s=0, idle_s=0), Workspace(tmp_path, {}, lambda _text: None))
    assert turns == ["relaxed", "full", "full", "relaxed", "relaxed", "full"]
    assert numbers["samples"]["boot_full_s"] == [1.0, 3.0]
    assert (numbers["boot_full_s"], numbers["boot_relaxed_s"], numbers["durability_ratio"]) == (2.0, 2.0, 1.0)


def test_the_sites_that_are_compared_are_described_so(tmp_path, monkeypatch):
    sites = Sites(tmp_path, 1, {})
    (tmp_path / "commands.log").touch()
    monkeypatch.setattr(site, "begin", lambda *_: subprocess.Popen(["/bin/false"]))
    with pytest.raises(AtollError):
        sites.up(1, site.DURABILITIES)
    described = yaml.safe_load((tmp_path / "cloud.yaml").read_text())["sites"]
    assert [(each["name"], each.get("durability", "full")) for each in described] == [
        ("site-1", "full"), ("full", "full"), ("relaxed", "relaxed"),
    ]  # fmt: skip
    assert len({each["port"] for each in described}) == 3


def test_one_site_has_no_next(fakes, tmp_path):
    numbers = run(SiteOptions(servers=1, at_once=1, boots=1, settle_s=0, idle_s=0), Workspace(tmp_path, {}, lambda _text: None))
    assert not {"next_site_s", "next_site_mb"} & numbers.keys()


def test_fresh_templates_are_made_in_a_cache_of_its_own(fakes, tmp_path):
    work = Workspace(tmp_path, {"PATH": "/bin"}, lambda _text: None)
    numbers = run(SiteOptions(boots=1, servers=1, settle_s=0, idle_s=0, fresh_templates=True), work)
    assert FakeSites.latest.done[:3] == ["up 1", "destroy", "up 1"]
    assert FakeSites.latest.environment == {"PATH": "/bin", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert numbers["first_site_no_template_s"] == 1.0


def test_a_leak_fails_the_experiment(fakes, tmp_path, monkeypatch):
    monkeypatch.setattr("atoll.bench.site.count_leaks", lambda _api: Leaks(0, 1, 0))
    with pytest.raises(AtollError, match=r"resources are left after everything was deleted: .*ports=1"):
        run(SMALL, Workspace(tmp_path, {}, lambda _text: None))


def test_a_site_that_does_not_come_up_says_why(tmp_path, monkeypatch):
    sites = Sites(tmp_path, 1, {})
    script = "echo 'error: port 1 of site-1/nova is in use' >&2; exit 1"
    begin = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda _words, **options: begin(["/bin/sh", "-c", script, "", "up"], **options))
    with pytest.raises(AtollError, match="port 1 of site-1/nova is in use"):
        sites.up(1)
    assert "site-1" in (tmp_path / "cloud.yaml").read_text()


def test_no_pids_without_a_supervisor(tmp_path: Path):
    assert Sites(tmp_path, 1, {}).pids() == []

import subprocess
from pathlib import Path

import pytest

from atoll.bench import site, workload
from atoll.bench.site import Options, Sites, run
from atoll.bench.target import Target
from atoll.errors import AtollError


class FakeSites:
    """Sites that take as many seconds as they have a number, and one megabyte each."""

    def __init__(self, _root, _count, environment):
        self.running = 0
        self.done = []
        FakeSites.latest = self
        self.environment = environment

    def up(self, number):
        self.done.append(f"up {number}")
        self.running = number
        return float(number)

    def stop(self):
        self.done.append("stop")

    def destroy(self):
        self.done.append("destroy")

    def target(self, number=1):
        return Target("http://127.0.0.1:1/v3", "secret", f"site-{number}", self.pids)

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
    monkeypatch.setattr(workload, "leaks", lambda _api: workload.Leaks(0, 0, 0))
    return api


SMALL = Options(sites=3, servers=4, at_once=2, boots=2, settle_s=0, idle_s=0)


def test_the_whole_experiment(fakes, tmp_path):
    numbers = run(SMALL, tmp_path, {}, lambda _text: None)
    assert FakeSites.latest.done == ["up 1", "stop", "up 1", "up 2", "up 3"]
    assert (numbers["first_site_s"], numbers["next_site_s"], numbers["samples"]["next_site_s"]) == (1.0, 2.5, [2.0, 3.0])
    assert (numbers["total_pss_mb"], numbers["site_pss_mb"], numbers["next_site_mb"]) == (160.0, 53.3, 20.0)
    assert (numbers["idle_cpu_percent"], numbers["processes"]) == (1.0, 3)
    assert numbers["boots_per_min"] > 0
    assert "first_site_no_template_s" not in numbers


def test_one_site_has_no_next(fakes, tmp_path):
    numbers = run(Options(servers=1, at_once=1, boots=1, settle_s=0, idle_s=0), tmp_path, {}, lambda _text: None)
    assert not {"next_site_s", "next_site_mb"} & numbers.keys()


def test_fresh_templates_are_made_in_a_cache_of_its_own(fakes, tmp_path):
    numbers = run(Options(boots=1, servers=1, settle_s=0, idle_s=0, fresh_templates=True), tmp_path, {"PATH": "/bin"}, lambda _text: None)
    assert FakeSites.latest.done[:3] == ["up 1", "destroy", "up 1"]
    assert FakeSites.latest.environment == {"PATH": "/bin", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert numbers["first_site_no_template_s"] == 1.0


def test_a_leak_fails_the_experiment(fakes, tmp_path, monkeypatch):
    monkeypatch.setattr(workload, "leaks", lambda _api: workload.Leaks(0, 1, 0))
    with pytest.raises(AtollError, match=r"something leaked: .*ports=1"):
        run(SMALL, tmp_path, {}, lambda _text: None)


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

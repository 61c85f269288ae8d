import json
import os
import resource
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from atoll.errors import AtollError
from atoll.namespaces import Namespace
from atoll.runtime.listeners import Listeners
from atoll.site import state as state_module
from atoll.site.destroy import destroy, destroyable
from atoll.site.down import down
from atoll.site.sites import known_sites, site_settings
from atoll.site.state import locked
from atoll.site.status import status
from atoll.site.up import up
from atoll.wan.client import LOG, Wan

UPSTREAM = ["keystone", "placement", "glance", "neutron", "nova"]
SERVICES = [*UPSTREAM, "gateway"]


BIND = Listeners.bind


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "cloud.yaml"
    path.write_text("sites:\n- name: paris\n- name: lyon\n")
    return path


def refused(code: str, state, cache, file=None) -> str:
    before = sorted(state.root.rglob("*"))
    with pytest.raises(AtollError) as caught:
        up(state, cache, file)
    assert caught.value.kind.code == code
    assert sorted(state.root.rglob("*")) == before
    return caught.value.message


def test_first_up_makes_templates_and_one_site(state, cache, runtime):
    outcome = up(state, cache)
    assert outcome.cloud.site_names == ("local",)
    plan = runtime.plans[0]
    assert [server.name for server in plan.fork_servers] == ["base", *SERVICES]
    assert [process.name for process in plan.processes] == [f"template/{name}" for name in UPSTREAM] + [
        f"local/{name}" for name in SERVICES
    ]
    *_others, nova, gateway = plan.processes
    assert set(nova.needs) == {"local/keystone", "local/placement", "local/glance", "local/neutron", "template/nova"}
    assert nova.listen == (("127.0.0.1", 15004), ("127.0.0.1", 15005))
    assert (gateway.needs, gateway.listen) == (("local/keystone",), (("127.0.0.1", 15001), ("127.0.0.1", 15003)))


def test_gateway_shares_nothing_with_openstack(state, cache, runtime):
    up(state, cache)
    parents = {server.name: server.origin for server in runtime.plans[0].fork_servers}
    assert parents == {"base": "root", "gateway": "root", **dict.fromkeys(UPSTREAM, "base")}


def test_second_up_changes_nothing_and_says_so(state, cache, runtime):
    up(state, cache)
    assert up(state, cache).started == ()
    assert not [process.name for process in runtime.plans[1].processes if process.job]
    assert "template/nova" not in next(process.needs for process in runtime.plans[1].processes if process.name == "local/nova")


def test_options_of_the_cloud_are_the_last_word_of_a_service(state, cache, runtime, file):
    up(state, cache, file)
    file.write_text("sites:\n- {name: paris, options: {nova: {DEFAULT: {instances_path: /x, a: [1, b], c: yes}}}}\n- name: lyon\n")
    assert up(state, cache, file).started == ("paris/nova",)
    text = (state.site("paris") / "etc/nova/nova.conf").read_text()
    assert text.endswith("\n[DEFAULT]\ninstances_path = /x\na = 1,b\nc = true\n")
    assert up(state, cache).started == ()


def test_everything_is_private(state, cache, runtime):
    up(state, cache)
    for path in [state.root, *state.root.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.fixture
def unable(monkeypatch):
    """Simulate a machine that can't run guests."""
    monkeypatch.delenv("ATOLL_COMPUTE")
    monkeypatch.setattr("atoll.site.preflight.obstacle", lambda *_networks: AtollError("guests.unavailable", "no wings"))


@pytest.mark.usefixtures("unable")
def test_why_servers_are_records_is_told_once(state, cache, runtime):
    assert up(state, cache).obstacle == "no wings"
    assert up(state, cache).obstacle == "", "a second `up` must report no obstacle: the site keeps its hypervisor"


@pytest.mark.usefixtures("unable")
def test_why_servers_are_records_is_not_told_where_that_was_asked_for(state, cache, runtime, file, monkeypatch):
    file.write_text("sites: [{name: paris, compute: fake}]\n")
    assert up(state, cache, file).obstacle == ""
    monkeypatch.setenv("ATOLL_COMPUTE", "fake")
    file.write_text("sites: [{name: paris, compute: fake}, {name: lyon}]\n")
    assert up(state, cache, file).obstacle == ""


def test_memory_is_asked_for_those_sites_that_do_not_run(state, cache, runtime, file, monkeypatch):
    asked = []
    monkeypatch.setattr("atoll.site.preflight.check_memory", lambda sites, *, warm: asked.append((sites, warm)))
    up(state, cache, file)
    up(state, cache, file)
    file.write_text("sites: [{name: paris}, {name: lyon}, {name: nice, kind: compute, control: paris}, {name: rome}]\n")
    up(state, cache, file)
    assert asked == [(2, False), (1, True)]


def test_too_little_memory_is_told_before_anything_is_made(state, cache, runtime, monkeypatch):
    def check(_sites, *, warm):
        raise AtollError("machine.limit", "no room")

    monkeypatch.setattr("atoll.site.preflight.check_memory", check)
    assert refused("machine.limit", state, cache) == "no room"


def test_too_few_open_files_are_told_before_anything_is_made(state, cache, runtime, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (100, 100))
    assert refused("machine.limit", state, cache) == "a process may open 100 files: expected at least 256"


def test_machine_without_a_wan_is_found_out_before_anything_is_made(state, cache, runtime, file, monkeypatch):
    file.write_text("sites: [{name: paris}, {name: lyon}]\ntopology: {preset: mesh}\n")

    def start(directory, _network, _options):
        (directory / LOG).touch()
        raise AtollError("wan.unavailable", "no namespaces here")

    monkeypatch.setattr(Wan, "start", start)
    assert refused("wan.unavailable", state, cache, file) == "no namespaces here"
    assert not state.root.exists()
    assert not runtime.alive


def test_log_of_a_wan_that_failed_is_kept(state, cache, runtime, file, monkeypatch):
    file.write_text("sites: [{name: paris}, {name: lyon}]\ntopology: {preset: mesh}\n")

    def start(directory, _network, _options):
        (directory / LOG).write_text("why")
        raise AtollError("wan.failed", f"see {directory / LOG}")

    monkeypatch.setattr(Wan, "start", start)
    with pytest.raises(AtollError):
        up(state, cache, file)
    assert [path.name for path in state.root.iterdir() if path.name != "lock"] == [LOG]


def test_wan_ends_with_the_supervisor_that_came_after_it(state, cache, runtime, file, monkeypatch):
    file.write_text("sites: [{name: paris}, {name: lyon}]\ntopology: {preset: mesh}\n")
    keepers = []
    wan = SimpleNamespace(namespace=lambda name: Namespace(f"/net/{name}"))
    monkeypatch.setattr(Wan, "start", lambda _directory, _network, options: keepers.append(options.tied_to) or wan)
    monkeypatch.setattr(Wan, "tie", lambda _self, pid: keepers.append(pid))
    up(state, cache, file)
    assert keepers == [os.getpid(), runtime.ping()["pid"]]


def test_secrets_are_made_once_for_each_site(state, cache, runtime, file):
    up(state, cache, file)
    first = {name: dict(site_settings(state, name).secrets) for name in ("paris", "lyon")}
    assert set(first["paris"]) == {"admin", "nova", "neutron", "glance", "placement", "gateway", "metadata", "database"}
    assert first["paris"]["admin"] == first["lyon"]["admin"], "all sites have the same users"
    assert len({*first["paris"].values(), *first["lyon"].values()}) == 15
    up(state, cache, file)
    assert dict(site_settings(state, "paris").secrets) == first["paris"]


def test_new_site_is_given_the_administrator_of_those_that_exist(state, cache, runtime, file):
    up(state, cache, file)
    before = {name: dict(site_settings(state, name).secrets) for name in ("paris", "lyon")}
    file.write_text("sites:\n- name: rome\n- name: paris\n- name: lyon\n")
    up(state, cache, file)
    rome = site_settings(state, "rome").secrets
    assert rome["admin"] == before["paris"]["admin"]
    assert {name: dict(site_settings(state, name).secrets) for name in before} == before
    assert not {secret for name, secret in rome.items() if name != "admin"} & set(before["paris"].values())


def test_site_keeps_an_administrator_of_its_own(state, cache, runtime, file):
    """The site may come from an earlier version: its settings contain the password that its database has."""
    up(state, cache, file)
    path = state.site("lyon") / "settings.json"
    known = json.loads(path.read_text())
    known["secrets"]["admin"] = "its own"
    path.write_text(json.dumps(known))
    up(state, cache, file)
    assert site_settings(state, "lyon").secrets["admin"] == "its own"


def test_clients_file_is_written(state, cache, runtime, file):
    up(state, cache, file)
    clouds = yaml.safe_load(state.clouds_file.read_text())["clouds"]
    assert {name: cloud["auth"]["auth_url"] for name, cloud in clouds.items()} == {
        "paris": "http://127.0.0.1:15001/identity/v3",
        "lyon": "http://127.0.0.1:15011/identity/v3",
        "default": "http://127.0.0.1:15001/identity/v3",
    }


def test_up_without_file_brings_up_what_was_applied(state, cache, runtime, file):
    up(state, cache, file)
    down(state)
    assert up(state, cache).cloud.site_names == ("paris", "lyon")


def test_added_site_starts_and_leaves_others_alone(state, cache, runtime, file):
    up(state, cache, file)
    file.write_text("sites:\n- name: rome\n- name: paris\n- name: lyon\n")
    outcome = up(state, cache, file)
    assert outcome.started == tuple(sorted(f"rome/{name}" for name in SERVICES))
    assert [site.port for site in outcome.cloud.sites] == [15020, 15000, 15010]


@pytest.mark.parametrize("change", ["debug: true", "durability: relaxed", "traffic: stock"])
def test_changed_site_is_restarted(state, cache, runtime, file, change):
    up(state, cache, file)
    file.write_text(f"sites:\n- name: paris\n- {{name: lyon, {change}}}\n")
    assert up(state, cache, file).started == tuple(sorted(f"lyon/{name}" for name in SERVICES))


def test_vanished_site_is_refused(state, cache, runtime, file):
    up(state, cache, file)
    file.write_text("sites:\n- name: paris\n")
    assert "leaves out lyon" in refused("cloud.invalid", state, cache, file)


def test_bad_file_leaves_no_trace(state, cache, file):
    file.write_text("sites: 7")
    refused("cloud.invalid", state, cache, file)
    assert not state.root.exists()
    assert not cache.exists()


def test_full_disk_leaves_no_trace(state, cache, runtime, monkeypatch):
    monkeypatch.setattr(state_module.shutil, "disk_usage", lambda _path: (1, 1, 1))
    refused("state.space", state, cache)
    assert not state.root.exists()


def test_full_disk_does_not_matter_if_all_is_up(state, cache, runtime, monkeypatch):
    up(state, cache)
    monkeypatch.setattr(state_module.shutil, "disk_usage", lambda _path: (1, 1, 1))
    assert up(state, cache).started == ()


@pytest.mark.parametrize(("offset", "process"), [(0, "keystone"), (1, "gateway"), (3, "gateway"), (7, "gateway")])
def test_port_in_use_leaves_no_trace(state, cache, runtime, file, monkeypatch, taken, offset, process):
    monkeypatch.setattr(Listeners, "bind", BIND)
    file.write_text(f"sites:\n- {{name: paris, port: {taken - offset}}}\n")
    assert f"port {taken} of paris/{process} is in use by pid " in refused("port.in_use", state, cache, file)
    assert not state.root.exists()


def test_up_while_up_runs(state, cache, runtime):
    with locked(state, "up"), pytest.raises(AtollError, match="another command is changing the cloud"):
        up(state, cache)


def test_failure_names_the_cause_and_not_its_consequences(state, cache, runtime):
    runtime.failing = {
        "local/nova": "needs local/keystone, which failed: exit status 1",
        "local/keystone": "exit status 1; the log ends:\nTraceback\nValueError: no",
    }
    with pytest.raises(AtollError) as caught:
        up(state, cache)
    assert caught.value.message == "local/keystone did not start (and 1 more with it): exit status 1; the log ends: ValueError: no"
    assert caught.value.hint == "`atoll logs local/keystone`"


def test_other_code_ends_the_old_supervisor_first(state, cache, runtime, monkeypatch):
    up(state, cache)
    for name in ("code_key", "template_key"):
        monkeypatch.setattr(f"atoll.site.up.{name}", lambda: "key-2")
    assert len(up(state, cache).started) == 11  # five templates, five services, a gateway
    assert runtime.shutdowns == 1
    assert [path.name for path in (cache / "templates").iterdir()] == ["key-2"]


def test_configuration_no_longer_rendered_is_removed(state, cache, runtime):
    up(state, cache)
    stale = state.site("local") / "etc/nova/stale.conf"
    stale.touch()
    up(state, cache)
    assert not stale.exists()


@pytest.mark.parametrize("text", ["", "{}", "[]", None])
def test_lost_secrets_are_not_made_anew(state, cache, runtime, text):
    up(state, cache)
    path = state.site("local") / "settings.json"
    path.unlink() if text is None else path.write_text(text)
    assert "expected the settings and secrets of the site" in refused("state.unusable", state, cache)


def test_down_of_one_site_keeps_the_other_and_the_supervisor(state, cache, runtime, file):
    up(state, cache, file)
    assert down(state, ["paris"]) == ("paris",)
    assert runtime.alive
    assert {name.partition("/")[0] for name in runtime.signatures} == {"lyon"}
    assert down(state, ["lyon"]) == ("lyon",)
    assert not runtime.alive


def test_down_when_nothing_runs(state, cache, runtime):
    assert down(state) == ()
    assert not state.root.exists()
    up(state, cache)
    down(state)
    assert down(state) == ()


def test_unknown_site_lists_those_known(state, cache, runtime, file):
    up(state, cache, file)
    for verb in (down, destroy, status):
        with pytest.raises(AtollError, match="no site is called rome: expected one of paris, lyon") as caught:
            verb(state, ["rome"])
        assert caught.value.kind.code == "site.unknown"


def test_destroy_of_one_site_keeps_the_other(state, cache, runtime, file):
    up(state, cache, file)
    assert destroy(state, ["paris"]) == ("paris",)
    assert known_sites(state) == ["lyon"]
    assert list(yaml.safe_load(state.clouds_file.read_text())["clouds"]) == ["lyon", "default"]
    assert [path.name for path in (state.root / "sites").iterdir()] == ["lyon"]
    assert up(state, cache).cloud.sites[0].port == 15010


def test_destroy_leaves_nothing(state, cache, runtime, file):
    up(state, cache, file)
    assert destroy(state) == ("paris", "lyon")
    assert not state.root.exists()
    assert not runtime.alive


def test_destroy_spares_what_is_not_ours(state, cache, runtime):
    up(state, cache)
    (state.root / "notes.txt").touch()
    destroy(state)
    assert [path.name for path in state.root.iterdir()] == ["notes.txt"]


def test_destroy_works_on_what_another_version_wrote(state, cache, runtime):
    up(state, cache)
    state.version_file.write_text(json.dumps({"atoll": "99.0"}))
    refused("state.version", state, cache)
    assert destroyable(state) == ["local"]
    destroy(state)
    assert not state.root.exists()


def test_status_of_nothing(state):
    found = status(state)
    assert (found.cloud, found.running, found.sites, found.supervisor) == (None, False, (), None)


def test_status_of_sites_up_and_down(state, cache, runtime, file):
    up(state, cache, file)
    down(state, ["lyon"])
    found = status(state)
    assert [(site.name, site.state, site.memory_bytes) for site in found.sites] == [("paris", "up", 6000), ("lyon", "stopped", 0)]
    assert found.running
    assert found.memory_bytes == 8000
    assert [row.name for row in found.fork_servers] == ["nova"]
    assert json.loads(json.dumps(found.to_json()))["sites"][1]["processes"][0]["state"] == "stopped"
    assert [site.name for site in status(state, ["lyon"]).sites] == ["lyon"]


def test_status_of_a_site_in_part(state, cache, runtime):
    up(state, cache)
    del runtime.signatures["local/nova"]
    assert status(state).sites[0].state == "partial"

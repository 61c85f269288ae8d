"""Compute sites: from the model to the plan, and their removal."""

import json

import pytest
import yaml

from atoll.errors import AtollError
from atoll.mesh.compute_sites import FILE, load
from atoll.runtime.listeners import Listeners
from atoll.services import Settings, bus_router
from atoll.site.destroy import destroy
from atoll.site.down import down
from atoll.site.logs import logs_of
from atoll.site.revocation import revoke
from atoll.site.sites import known_sites, site_settings
from atoll.site.status import status
from atoll.site.up import up

BIND = Listeners.bind


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "cloud.yaml"
    path.write_text("sites:\n- {name: edge, kind: compute, control: paris, host: 127.0.0.2}\n- name: paris\n- name: lyon\n")
    return path


@pytest.fixture
def departed(monkeypatch):
    """Return the list of the compute sites that were removed from their control sites, in order."""
    gone: list[tuple[str, str]] = []
    monkeypatch.setattr("atoll.site.destroy.depart", lambda control, name: gone.append((control.site, name)))
    return gone


def refused(code, call, *arguments):
    with pytest.raises(AtollError) as caught:
        call(*arguments)
    assert caught.value.kind.code == code
    return caught.value.message


def processes(plan):
    return {process.name: process for process in plan.processes}


def test_compute_site_starts_after_its_control_site_and_is_mapped_there(state, cache, runtime, file):
    up(state, cache, file)
    found = processes(runtime.plans[0])
    assert {name for name in found if name.startswith("edge/")} == {"edge/nova-compute", "edge/map-host"}
    compute, mapping = found["edge/nova-compute"], found["edge/map-host"]
    assert set(compute.needs) == {"paris/nova", "paris/bus", "paris/gateway"}
    assert (compute.fork_server, compute.listen, compute.job) == ("nova", (), False)
    assert (mapping.needs, mapping.job, mapping.fork_server) == (("edge/nova-compute",), True, "nova")
    assert (mapping.arguments["directory"], mapping.arguments["host"]) == (str(state.site("paris")), "edge")


def test_only_a_control_site_runs_a_router(state, cache, runtime, file):
    up(state, cache, file)
    routers = {name: process for name, process in processes(runtime.plans[0]).items() if name.endswith("/bus")}
    assert list(routers) == ["paris/bus"]
    assert routers["paris/bus"].fork_server == "root"


def test_router_is_stopped_after_nova(state, cache, runtime, file):
    up(state, cache, file)
    found = processes(runtime.plans[0])
    assert "paris/bus" in found["paris/nova"].needs
    assert "lyon/bus" not in found["lyon/nova"].needs


def test_with_rabbitmq_there_is_no_router(state, cache, runtime, file, tmp_path):
    password = tmp_path / "password"
    password.touch(mode=0o600)
    password.write_text("p w\n")
    rabbit = f"bus: rabbit, rabbit: {{url: 'rabbit://u@h/', password_file: {password}}}"
    file.write_text(f"sites:\n- {{name: paris, {rabbit}}}\n- {{name: edge, kind: compute, control: paris}}\n")
    up(state, cache, file)
    assert processes(runtime.plans[0])["edge/nova-compute"].needs == ("paris/nova", "paris/gateway")
    assert not [name for name in processes(runtime.plans[0]) if name.endswith("/bus")]
    for name in ("paris", "edge"):
        assert "transport_url = rabbit://u:p%20w@h/\n" in (state.site(name) / "etc/nova/nova.conf").read_text()


def test_mapped_once(state, cache, runtime, file):
    up(state, cache, file)
    assert up(state, cache).started == ()
    assert "edge/map-host" not in processes(runtime.plans[1])


def test_compute_site_is_told_where_its_control_site_is_and_no_more_secrets_than_it_needs(state, cache, runtime, file):
    up(state, cache, file)
    edge, paris = Settings.load(state.site("edge")), Settings.load(state.site("paris"))
    assert (edge.host, edge.ports, edge.own_address) == (paris.host, paris.ports, "127.0.0.2")
    assert edge.transport_url == "zenoh://127.0.0.1:15019/paris"
    assert paris.transport_url == "zenoh:///paris"
    assert edge.secrets == {name: paris.secrets[name] for name in ("nova", "neutron", "placement")}
    up(state, cache, file)
    assert Settings.load(state.site("edge")) == edge


def test_clients_find_the_control_site(state, cache, runtime, file):
    up(state, cache, file)
    assert site_settings(state, "edge").site == "paris"
    assert site_settings(state).site == "paris"
    clouds = yaml.safe_load(state.clouds_file.read_text())["clouds"]
    assert list(clouds) == ["paris", "lyon", "default"]
    assert clouds["default"]["auth"]["auth_url"] == "http://127.0.0.1:15011/identity/v3"


def test_status_tells_the_kind(state, cache, runtime, file):
    up(state, cache, file)
    sites = json.loads(json.dumps(status(state).to_json()))["sites"]
    assert [(site["name"], site["kind"], site["control"], site["state"]) for site in sites] == [
        ("edge", "compute", "paris", "up"),
        ("paris", "full", None, "up"),
        ("lyon", "full", None, "up"),
    ]
    assert sites[0]["url"] == sites[1]["url"] == "http://127.0.0.1:15011/identity/v3"
    assert [row["name"] for row in sites[0]["processes"]] == ["edge/nova-compute"]
    assert sites[1]["processes"][-1]["name"] == "paris/bus"


def test_logs_of_a_compute_site(state, cache, runtime, file):
    up(state, cache, file)
    assert [log.name for log in logs_of(state, "edge")] == ["edge/nova-compute", "edge/map-host"]
    assert [log.path for log in logs_of(state, "edge/map-host")] == [state.site("edge") / "log" / "map-host.log"]


def test_options_of_nova_reach_nova_compute(state, cache, runtime, file):
    up(state, cache, file)
    file.write_text(file.read_text().replace("host: 127.0.0.2", "host: 127.0.0.2, options: {nova: {DEFAULT: {reserved_host_cpus: 1}}}"))
    assert up(state, cache, file).started == ("edge/nova-compute",)
    assert (state.site("edge") / "etc/nova/nova.conf").read_text().endswith("\n[DEFAULT]\nreserved_host_cpus = 1\n")


def test_first_compute_site_starts_its_control_sites_router_and_nothing_else_anew(state, cache, runtime, file):
    file.write_text("sites:\n- name: paris\n")
    up(state, cache, file)
    file.write_text("sites:\n- name: paris\n- {name: edge, kind: compute, control: paris}\n")
    assert up(state, cache, file).started == ("edge/map-host", "edge/nova-compute", "paris/bus")


def test_new_certificate_restarts_those_that_use_it(state, cache, runtime, file):
    up(state, cache, file)
    for name in ("edge", "paris", "lyon"):
        (state.site(name) / "tls/cert.pem").unlink()
    assert up(state, cache, file).started == ("edge/nova-compute", "lyon/gateway", "paris/bus", "paris/gateway")


def test_port_of_the_router_is_looked_at_before_anything_is_written(state, cache, runtime, file, monkeypatch, taken):
    monkeypatch.setattr(Listeners, "bind", BIND)
    file.write_text(f"sites:\n- {{name: paris, port: {taken - 9}}}\n- {{name: edge, kind: compute, control: paris}}\n")
    assert f"port {taken} of paris/bus is in use by pid " in refused("port.in_use", up, state, cache, file)
    assert not state.root.exists()


def test_directory_with_a_path_too_long_for_a_socket(tmp_path, cache, runtime, file):
    from atoll.site.state import State

    state = State(tmp_path / ("x" * 100))
    assert "is too long for the sockets of the message bus" in refused("state.unusable", up, state, cache, file)
    assert not state.root.exists()


@pytest.mark.parametrize(
    ("site", "was"),
    [
        ("{name: edge, kind: compute, control: lyon}", "edge is a compute site of paris"),
        ("{name: edge}", "edge is a compute site of paris"),
        ("{name: lyon, kind: compute, control: paris}", "lyon is a full site"),
    ],
)
def test_site_stays_what_it_is(state, cache, runtime, file, site, was):
    up(state, cache, file)
    before = state.cloud_file.read_text()
    lines = [line for line in file.read_text().splitlines() if f"name: {was[:4]}" not in line]
    file.write_text("\n".join([*lines, f"- {site}"]))
    assert refused("cloud.invalid", up, state, cache, file) == f"{file}: {was}: expected it to stay one"
    assert state.cloud_file.read_text() == before


def test_down_of_one_leaves_the_other_alone(state, cache, runtime, file):
    up(state, cache, file)
    assert down(state, ["edge"]) == ("edge",)
    assert "paris/nova" in runtime.signatures
    up(state, cache)
    assert down(state, ["paris"]) == ("paris",)
    assert "edge/nova-compute" in runtime.signatures


def test_destroyed_compute_site_is_taken_off_its_control_site(state, cache, runtime, file, departed):
    up(state, cache, file)
    assert destroy(state, ["edge"]) == ("edge",)
    assert departed == [("paris", "edge")]
    assert known_sites(state) == ["paris", "lyon"]
    assert "edge/map-host" in up(state, cache, file).started


def test_control_site_is_not_destroyed_without_its_compute_sites(state, cache, runtime, file, departed):
    up(state, cache, file)
    assert refused("site.needed", destroy, state, ["paris", "lyon"]) == "paris is the control site of edge, which cannot do without it"
    assert "paris/nova" in runtime.signatures
    assert destroy(state, ["paris", "edge"]) == ("edge", "paris")
    assert departed == []


def test_compute_site_whose_control_site_is_down_is_not_destroyed(state, cache, runtime, file, departed):
    up(state, cache, file)
    down(state, ["paris"])
    assert "paris, the control site of edge, is not running" in refused("site.not_running", destroy, state, ["edge"])
    assert (state.site("edge") / "settings.json").exists()
    assert "edge/nova-compute" in runtime.signatures


def test_everything_is_destroyed_whatever_runs(state, cache, runtime, file, departed):
    up(state, cache, file)
    down(state)
    assert destroy(state) == ("edge", "paris", "lyon")
    assert (departed, state.root.exists()) == ([], False)


def entries(state):
    return load(state.site("paris") / FILE)


def test_control_site_lists_its_compute_sites_alone(state, cache, runtime, file, departed):
    up(state, cache, file)
    (edge,) = entries(state)
    assert (edge.name, edge.revoked) == ("edge", False)
    assert edge.common_name.startswith("edge.")
    assert edge.realm == Settings.load(state.site("edge")).realm != 0
    assert load(state.site("lyon") / FILE) == ()
    (client,) = bus_router.clients(Settings.load(state.site("paris")))
    assert (client.common_name, client.limits.server, client.limits.realm) == (edge.common_name, "edge", edge.realm)
    assert client.limits.calls == (("nova", "conductor"),)
    destroy(state, ["edge"])
    assert entries(state) == ()


def test_revoked_compute_site_is_let_in_no_more_and_does_not_come_up(state, cache, runtime, file, departed):
    up(state, cache, file)
    (old,) = entries(state)
    revoke(state, "edge")
    assert [each.revoked for each in entries(state)] == [True]
    assert bus_router.clients(Settings.load(state.site("paris"))) == ()
    assert "edge was revoked" in refused("mesh.refused", up, state, cache, file)
    destroy(state, ["edge"])
    up(state, cache, file)
    (new,) = entries(state)
    assert not new.revoked
    assert new.common_name != old.common_name, "the new site must have another certificate than the revoked one"


def test_compute_site_reaches_the_apis_of_its_control_site_with_its_certificate(state, cache, runtime, file):
    up(state, cache, file)
    text = (state.site("edge") / "etc" / "nova" / "nova.conf").read_text()
    port = site_settings(state, "paris").ports["peer"]
    assert text.count(f"auth_url = https://127.0.0.1:{port}/identity/v3") == 3
    for api in ("placement", "network", "image"):
        assert f"endpoint_override = https://127.0.0.1:{port}/{api}" in text
    assert "http://" not in text
    assert text.count(f"certfile = {state.site('edge')}/tls/cert.pem") == 4
    assert "track_instance_changes = false" in text

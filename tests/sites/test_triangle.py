"""A cloud with a topology: sites in their own networks, cut, healed, stopped, killed, added and removed."""

import http.client
import json
import os
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from deployment import NAMES, Deployment, answers, until
from holdings import allocations, await_status, server

from atoll.bench import workload
from atoll.services import Settings
from atoll.wan.isolation import within

IMPATIENT = {"nova": {"DEFAULT": {"report_interval": 2}, "oslo_messaging_zenoh": {"lease": 3, "lost_server_timeout": 4}}}
"""Settings with which a compute site notices within seconds instead of a minute that it is cut off."""

SITES = ({"name": "paris"}, {"name": "lyon"}, {"name": "edge", "kind": "compute", "control": "paris", "options": IMPATIENT})
TOPOLOGY = {"preset": "mesh", "defaults": {"delay": "5ms"}, "links": [{"between": ["paris", "edge"], "delay": "15ms"}]}
GATEWAY = 8080
APIS = {"identity": 5000, "image": 9292, "compute": 8774, "metadata": 8775, "network": 9696, "placement": 8778}


@pytest.fixture(scope="module")
def built(make) -> Deployment:
    made: Deployment = make()
    made.atoll("up", made.file(*SITES, topology=TOPOLOGY))
    assert made.trouble() == "", "a start must log no error"
    return made


@pytest.fixture(scope="module")
def tenancies(built) -> dict[str, workload.Tenancy]:
    return {name: workload.prepare(built.api_inside(name)) for name in ("paris", "lyon")}


@pytest.fixture
def triangle(built, tenancies) -> Deployment:
    """Start and reconnect all sites, whatever an earlier test did."""
    built.wan().heal()
    built.atoll("site", "start", "paris", "lyon", "edge")
    return built


def connects(cloud: Deployment, start: str, end: str, port: int = GATEWAY, address: str = "") -> bool:
    """Return whether one site can open a TCP connection to another."""
    connection = reach(cloud, start, end, port, address)
    if connection is not None:
        connection.close()
    return connection is not None


def reach(cloud: Deployment, start: str, end: str, port: int = GATEWAY, address: str = "") -> socket.socket | None:
    address = address or cloud.wan().addresses[end]
    network = os.open(cloud.wan().namespace(start).network, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return within(network, lambda: socket.create_connection((address, port), 3))
    except OSError:
        return None
    finally:
        os.close(network)


def boot(cloud: Deployment, tenancies: dict[str, workload.Tenancy], site: str, host: str | None = None) -> str:
    """Boot a server at once: services that have just started must accept it."""
    api = cloud.api_inside(site)
    body = workload.server_body(tenancies[site], f"of-{site}")
    body["server"]["host"] = host or site
    made = str(api.expect("compute", "POST", "/servers", body)["server"]["id"])
    await_status(api, made, "ACTIVE")
    return made


def running(cloud: Deployment) -> set[str]:
    return {name.partition("/")[0] for name, pid in cloud.pids().items() if "/" in name and pid}


def greeted(address: str) -> bool:
    """Return whether a Keystone answers at an address; outside the site, another network may have the same address."""
    connection = http.client.HTTPConnection(address, GATEWAY, timeout=3)
    try:
        connection.request("GET", "/identity/v3")
        return b"identity" in connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def test_standard_ports_inside_and_nothing_outside(triangle):
    address = triangle.wan().addresses["paris"]
    for name, port in APIS.items():
        assert not connects(triangle, "lyon", "paris", port), name
        assert not connects(triangle, "paris", "paris", port), name
        assert connects(triangle, "paris", "paris", port, "127.0.0.1"), name
    assert connects(triangle, "lyon", "paris")
    assert not greeted(address)
    network = os.open(triangle.wan().namespace("lyon").network, os.O_RDONLY | os.O_CLOEXEC)
    assert within(network, lambda: greeted(address))
    os.close(network)
    assert answers(triangle.api_inside("lyon"), "network", "/v2.0/networks")
    assert not connects(triangle, "paris", "edge"), "a compute site must listen on no port"
    assert not any(line.split(":")[0].strip().startswith("wan") for line in Path("/proc/net/dev").read_text().splitlines())


def test_cut_off_site_goes_on_alone(triangle, tenancies):
    triangle.atoll("wan", "cut", "lyon")
    assert not connects(triangle, "paris", "lyon")
    made = boot(triangle, tenancies, "lyon")
    api = triangle.api_inside("lyon")
    assert made in {each["id"] for each in api.expect("compute", "GET", "/servers")["servers"]}
    workload.delete(api, [made])
    workload.delete(triangle.api_inside("paris"), [boot(triangle, tenancies, "paris")])
    triangle.atoll("wan", "heal", "lyon")
    until(lambda: connects(triangle, "paris", "lyon"), "paris and lyon connected", 10)


def test_thin_site_is_cut_and_goes_on_with_nobodys_help(triangle, tenancies):
    kept, before = boot(triangle, tenancies, "paris", "edge"), triangle.pids()
    api = triangle.api_inside("paris")
    triangle.wan().cut("edge")
    log = triangle.root / "sites/edge/log/nova-compute.log"
    begun = log.stat().st_size
    until(lambda: "Lost connection to nova-conductor" in log.read_bytes()[begun:].decode(), "nova-compute has noticed")
    triangle.wan().heal()
    for action, status in (("os-stop", "SHUTOFF"), ("os-start", "ACTIVE")):
        until(lambda action=action: api.call("compute", "POST", f"/servers/{kept}/action", {action: None}).ok, f"{action} accepted")
        await_status(api, kept, status)
    until(lambda: "Recovered from being unable to report status" in log.read_bytes()[begun:].decode(), "nova-compute reports again")
    after = boot(triangle, tenancies, "paris", "edge")
    assert triangle.pids() == before
    workload.delete(api, [kept, after])
    assert not {kept, after} & allocations(api)


def test_programs_run_inside_a_site(triangle):
    here = "import os, socket; socket.socket().bind(('{}', 0)); print(os.environ['ATOLL_SITE'], os.environ['OS_AUTH_URL'])"
    for site, control in (("lyon", "lyon"), ("edge", "paris")):
        addresses = triangle.wan().addresses
        said = triangle.atoll("exec", site, "--", "python3", "-c", here.format(addresses[site]))
        assert said == f"{site} http://{addresses[control]}:8080/identity/v3\n"
    assert triangle.run("exec", "lyon", "--", "sh", "-c", "exit 7").returncode == 7
    assert triangle.refused("exec", "lyon", "nosuchprogram") == "nosuchprogram can't be run: it is not on the PATH"
    assert int(triangle.atoll("shell", "lyon", "-c", "openstack flavor list -f value -c Name | wc -l")) >= 5
    assert "auth_url" not in triangle.atoll("tempest-conf", "lyon")


def test_stopped_site_comes_back_ready_for_a_boot(triangle, tenancies):
    kept, before = boot(triangle, tenancies, "lyon"), triangle.pids()
    assert triangle.atoll("site", "stop", "lyon") == "stopped: lyon\n"
    assert running(triangle) == {"paris", "edge"}
    assert triangle.wan().probe([("paris", "lyon")])["paris", "lyon"][0].rtt_ms is not None, "the network of a stopped site must remain"
    with closing(sqlite3.connect(triangle.root / "sites/lyon/data/nova_cell1.db")) as database, database:
        database.execute("UPDATE services SET last_seen_up = datetime('now', '-1 day')")  # as if it had been away for long
    found = json.loads(triangle.atoll("site", "start", "lyon", "--json"))
    assert (found["started"], found["already_up"]) == (["lyon"], [])
    api = triangle.api_inside("lyon")
    assert server(api, kept)["status"] == "ACTIVE"
    workload.delete(api, [kept, boot(triangle, tenancies, "lyon")])
    assert {name: pid for name, pid in triangle.pids().items() if not name.startswith("lyon/")} == {
        name: pid for name, pid in before.items() if not name.startswith("lyon/")
    }, "no other process may be restarted"


def test_killed_site_says_nothing_and_stays_away_until_it_is_started(triangle, tenancies):
    kept = boot(triangle, tenancies, "lyon")
    connection = reach(triangle, "paris", "lyon")
    assert connection is not None
    connection.settimeout(0.5)
    assert json.loads(triangle.atoll("site", "kill", "--json", "lyon")) == {"killed": ["lyon"], "not_running": []}
    with connection, pytest.raises(TimeoutError):
        connection.recv(1)  # neither an end nor a reset
    assert running(triangle) == {"paris", "edge"}
    assert not connects(triangle, "paris", "lyon")
    assert triangle.atoll("site", "kill", "lyon") == "not running: lyon\n"
    triangle.atoll("site", "start", "lyon")
    assert connects(triangle, "paris", "lyon")
    api = triangle.api_inside("lyon")
    assert server(api, kept)["status"] == "ACTIVE"
    workload.delete(api, [kept, boot(triangle, tenancies, "lyon")])


def test_killed_thin_site_comes_back(triangle, tenancies):
    kept = boot(triangle, tenancies, "paris", "edge")
    triangle.atoll("site", "kill", "edge")
    assert running(triangle) == {"paris", "lyon"}
    triangle.atoll("site", "start", "edge")
    api = triangle.api_inside("paris")
    for action, status in (("os-stop", "SHUTOFF"), ("os-start", "ACTIVE")):
        api.expect("compute", "POST", f"/servers/{kept}/action", {action: None})
        await_status(api, kept, status)
    workload.delete(api, [kept, boot(triangle, tenancies, "paris", "edge")])


def test_sites_are_added_and_removed_while_others_go_on(triangle, tenancies):
    before, wan = triangle.pids(), triangle.wan()
    thin = ("--kind", "compute", "--control", "paris")
    assert "no site or router is called rome" in triangle.refused("site", "add", "nice", *thin, "--link", "rome")
    found = json.loads(triangle.atoll("site", "add", "nice", *thin, "--link", "paris:delay=7ms", "--json"))
    assert (found["address"], sorted(found["links"])) == ("10.77.3.1", ["edge:nice", "lyon:nice", "paris:nice"])
    assert wan.probe([("paris", "nice")])["paris", "nice"][0].rtt_ms >= 14
    made = boot(triangle, tenancies, "paris", "nice")
    assert "nice exists already, and is up" in triangle.atoll("site", "add", "nice", *thin)
    assert triangle.atoll("site", "remove", "--yes", "nice", "rome") == "removed: nice\nnot there: rome\n"
    assert "nice" not in wan.addresses
    api = triangle.api_inside("paris")
    assert made not in allocations(api)
    services = api.expect("compute", "GET", "/os-services?binary=nova-compute")["services"]
    assert {each["host"] for each in services} == {"paris", "edge", "lyon"}, "expected the services of the whole cloud"
    assert triangle.pids() == before
    assert "no site of the cloud would be left" in triangle.refused("site", "remove", "--yes", "paris", "lyon", "edge")


def test_settings_of_all_full_sites_are_alike_but_for_their_address(triangle):
    left, right = (Settings.load(triangle.root / "sites" / name) for name in ("paris", "lyon"))
    assert left.ports == right.ports
    assert left.host != right.host
    assert {name.partition("/")[2] for name in triangle.pids() if name.startswith("lyon/")} == set(NAMES)

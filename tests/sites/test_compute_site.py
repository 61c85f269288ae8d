"""A site with nova-compute alone and its control site, connected by Zenoh over TLS through a router."""

import json
import socket
import ssl
from pathlib import Path

import pytest
import zenoh
from deployment import Deployment, answers, kill, until
from holdings import allocations, await_status, server

from atoll.bench import workload
from atoll.bus.keys import Keys
from atoll.mesh.certificates import authority
from atoll.zenoh_link.config import Tls, session_config

EDGE = {"name": "edge", "kind": "compute", "control": "paris"}


@pytest.fixture(scope="module")
def coast(make, base_ports) -> Deployment:
    """Make a cloud of the full site paris and its compute site edge."""
    made: Deployment = make()
    made.atoll("up", made.file(EDGE, {"name": "paris", "port": next(base_ports)}))
    assert made.trouble() == "", "a start must log no error"
    return made


@pytest.fixture(scope="module")
def tenancy(coast):
    return workload.prepare(coast.api())


@pytest.fixture
def boot(coast, tenancy):
    """Yield a function that boots servers on edge, and delete those that a test leaves."""
    made: list[str] = []

    def boot_(name: str, **where: str) -> str:
        api = coast.api()
        body = workload.server_body(tenancy, name)
        body["server"] |= where or {"host": "edge"}
        made.append(api.expect("compute", "POST", "/servers", body)["server"]["id"])
        until(lambda: server(api, made[-1])["status"] != "BUILD", f"{name} built")
        found = server(api, made[-1])
        assert (found["status"], found["OS-EXT-SRV-ATTR:host"]) == ("ACTIVE", "edge"), found.get("fault")
        return made[-1]

    yield boot_
    workload.delete(coast.api(), made)


def restarted(coast: Deployment, name: str, old: int):
    found = coast.processes()[name]
    return found if found.state == "ready" and found.pid != old else None


def test_both_are_up_and_each_is_what_it_is(coast):
    status = json.loads(coast.atoll("status", "--json"))
    assert [(site["name"], site["kind"], site["control"], site["state"]) for site in status["sites"]] == [
        ("edge", "compute", "paris", "up"),
        ("paris", "full", None, "up"),
    ]
    assert [row["name"] for row in status["sites"][0]["processes"]] == ["edge/nova-compute"]
    services = coast.api().expect("compute", "GET", "/os-services?binary=nova-compute")["services"]
    assert {service["host"]: service["state"] for service in services} == {"paris": "up", "edge": "up"}


def test_client_is_led_to_the_control_site(coast):
    assert json.loads(coast.atoll("env", "--json", "edge")) == json.loads(coast.atoll("env", "--json", "paris"))
    listed = json.loads(coast.atoll("openstack", "--site", "edge", "hypervisor", "list", "-f", "json"))
    assert {each["Hypervisor Hostname"] for each in listed} == {"paris", "edge"}


@pytest.mark.parametrize("where", [{"host": "edge"}, {"availability_zone": "paris:edge"}], ids=str)
def test_server_on_a_compute_site(coast, boot, where):
    api = coast.api()
    made = boot("there", **where)
    assert made in allocations(api)
    manage(coast, made)
    workload.delete(api, [made])
    until(lambda: made not in allocations(api), "nothing allocated", 60)


def test_killed_compute_site_goes_on(coast, boot):
    kept = boot("kept")
    before = coast.processes()
    kill(before["edge/nova-compute"].pid)
    until(lambda: restarted(coast, "edge/nova-compute", before["edge/nova-compute"].pid), "nova-compute ready again")
    after = coast.pids()
    assert {name: pid for name, pid in after.items() if not name.startswith("edge/")} == {
        name: status.pid for name, status in before.items() if status.pid and not name.startswith("edge/")
    }, "no other process may be restarted"
    manage(coast, kept)
    boot("after")


def manage(coast: Deployment, kept: str) -> None:
    api = coast.api()
    for action, status in (("os-stop", "SHUTOFF"), ("os-start", "ACTIVE")):
        api.expect("compute", "POST", f"/servers/{kept}/action", {action: None})
        await_status(api, kept, status)


@pytest.mark.parametrize("service", ["bus", "nova"])
def test_killed_service_of_the_control_site_is_found_again(coast, boot, service):
    """The process of nova-compute is the same before and after."""
    kept, before = boot("kept"), coast.pids()
    kill(before[f"paris/{service}"])
    until(lambda: restarted(coast, f"paris/{service}", before[f"paris/{service}"]), f"{service} ready again")
    coast.await_answers()
    manage(coast, kept)
    boot("after")
    assert coast.pids()["edge/nova-compute"] == before["edge/nova-compute"]


def test_control_site_down_and_up_again(coast, boot):
    kept, before = boot("kept"), coast.pids()
    assert coast.atoll("down", "paris") == "stopped: paris\n"
    assert coast.pids()["edge/nova-compute"] == before["edge/nova-compute"]
    coast.atoll("up")
    coast.await_answers()
    manage(coast, kept)
    boot("after")
    assert coast.pids()["edge/nova-compute"] == before["edge/nova-compute"]


def test_router_lets_nobody_in_without_a_certificate_of_the_cloud(coast):
    settings = coast.settings()
    context = ssl.create_default_context(cafile=settings.tls / "ca.pem")
    with (
        socket.create_connection((settings.host, settings.ports["bus"]), timeout=60) as connection,
        pytest.raises(ssl.SSLError, match="ALERT"),
        context.wrap_socket(connection, server_hostname="paris") as stranger,
    ):
        stranger.recv(1)


class Thief:
    """A client with a certificate at the two ports of a control site."""

    def __init__(self, coast: Deployment, directory: Path) -> None:
        self._settings, self._files = coast.settings(), [str(directory / name) for name in ("ca.pem", "cert.pem", "key.pem")]
        endpoint = f"tls/{self._settings.host}:{self._settings.ports['bus']}"
        self.session = zenoh.open(session_config(mode="client", listen=[], connect=[endpoint], tls=Tls(*self._files)))
        self.heard: list[str] = []
        self.session.declare_subscriber("**", lambda sample: self.heard.append(str(sample.key_expr)))

    def has_no_link(self) -> bool:
        return not list(self.session.info.links())

    def sees(self, pattern: str) -> list[str]:
        return [str(reply.ok.key_expr) for reply in self.session.liveliness().get(pattern, timeout=1.0) if reply.ok]

    def status(self, path: str) -> int:
        """Return the HTTP status of an internal API at the gateway's peer port."""
        context = ssl.create_default_context(cafile=self._files[0])
        context.load_cert_chain(*self._files[1:])
        with (
            socket.create_connection((self._settings.host, self._settings.ports["peer"]), timeout=60) as plain,
            context.wrap_socket(plain, server_hostname=self._settings.host) as stream,
        ):
            stream.sendall(f"GET {path} HTTP/1.1\r\nHost: paris\r\nConnection: close\r\n\r\n".encode())
            return int(stream.recv(100).split()[1])


def test_certificate_of_another_site_of_the_cloud_opens_nothing(coast, boot, tmp_path):
    """The certificates of full sites, revoked or not, are not in the list of compute sites' certificates."""
    authority(coast.root / "ca", "atoll").certify(tmp_path / "stolen", "edge", "127.0.0.1")
    thief = Thief(coast, tmp_path / "stolen")
    assert thief.status("/identity/v3") == 403
    until(thief.has_no_link, "no link")
    kept = boot("kept")
    manage(coast, kept)
    assert thief.heard == []
    assert thief.sees("**") == []
    thief.session.close()


def test_compute_site_sees_and_asks_what_nova_compute_does(coast, boot):
    """An attacker on the compute site has its listed certificate."""
    thief = Thief(coast, coast.root / "sites" / "edge" / "tls")
    keys = Keys("paris")
    until(lambda: thief.sees(keys.listeners("rpc", "nova", "conductor")), "the conductor is there")
    assert thief.sees(keys.listeners("rpc", "nova", "scheduler")) == []
    assert {token.split("/")[5] for token in thief.sees(keys.listeners("rpc", "nova", "compute"))} <= {"edge"}
    assert {path: thief.status(path) for path in ("/identity/v3", "/compute/v2.1", "/atoll/ping")} == {
        "/identity/v3": 200,
        "/compute/v2.1": 403,
        "/atoll/ping": 404,
    }
    kept = boot("kept")
    manage(coast, kept)
    assert thief.heard == [], "a compute site must receive no foreign message, even if it subscribes to all"
    thief.session.close()


def test_resized_server_stays_at_its_site(coast, boot):
    api, kept = coast.api(), boot("kept")
    api.expect("compute", "POST", f"/servers/{kept}/action", {"resize": {"flavorRef": "2"}})
    await_status(api, kept, "VERIFY_RESIZE")
    assert server(api, kept)["OS-EXT-SRV-ATTR:host"] == "edge"
    api.expect("compute", "POST", f"/servers/{kept}/action", {"confirmResize": None})
    await_status(api, kept, "ACTIVE")


def test_everything_of_the_cloud_is_private(coast):
    for path in [coast.root, *coast.root.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_destroyed_compute_site_is_forgotten_by_its_control_site(coast, tenancy):
    """The destroyed site has a server; a new site of the same name works like the old one."""
    api = coast.api()
    body = workload.server_body(tenancy, "doomed")
    body["server"]["host"] = "edge"
    doomed = api.expect("compute", "POST", "/servers", body)["server"]["id"]
    await_status(api, doomed, "ACTIVE")
    assert "paris is the control site of edge" in coast.refused("destroy", "--yes", "paris")
    assert coast.atoll("destroy", "--yes", "edge") == "destroyed: edge\n"
    assert not answers(api, "compute", f"/servers/{doomed}")
    services = api.expect("compute", "GET", "/os-services?binary=nova-compute")["services"]
    providers = api.expect("placement", "GET", "/resource_providers")["resource_providers"]
    assert ([each["host"] for each in services], [each["name"] for each in providers]) == (["paris"], ["paris"])
    assert doomed not in allocations(api)
    coast.atoll("up", coast.file(EDGE, {"name": "paris", "port": coast.settings().ports["identity"]}))
    body["server"]["name"] = "new"
    new = api.expect("compute", "POST", "/servers", body)["server"]["id"]
    await_status(api, new, "ACTIVE")
    workload.delete(api, [new])


def test_revoked_compute_site_is_shut_out_immediately(coast, tenancy):
    """Open links and sessions end; a new site of the same name has another certificate."""
    old = coast.root / "stolen"
    old.mkdir(mode=0o700)
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (old / name).write_bytes((coast.root / "sites" / "edge" / "tls" / name).read_bytes())
    thief, keys = Thief(coast, old), Keys("paris")
    until(lambda: thief.sees(keys.listeners("rpc", "nova", "conductor")), "the conductor is there")
    assert thief.status("/identity/v3") == 200
    assert coast.atoll("site", "revoke", "--yes", "edge") == "revoked: edge\n"
    assert thief.status("/identity/v3") == 403
    until(lambda: not thief.sees("**"), "it sees nobody any more")
    until(thief.has_no_link, "no link")
    assert "edge was revoked" in coast.refused("up")
    # For Nova, the site no longer exists: the control site alone deletes the servers.
    coast.atoll("destroy", "--yes", "edge")
    coast.atoll("up", coast.file(EDGE, {"name": "paris", "port": coast.settings().ports["identity"]}))
    body = workload.server_body(tenancy, "anew")
    body["server"]["host"] = "edge"
    api = coast.api()
    new = api.expect("compute", "POST", "/servers", body)["server"]["id"]
    await_status(api, new, "ACTIVE")
    workload.delete(api, [new])
    assert thief.status("/identity/v3") == 403, "the old certificate must stay refused"
    thief.session.close()
    for path in old.iterdir():
        path.unlink()
    old.rmdir()

"""`down` keeps all data, `destroy` deletes all, and sites do not depend on each other."""

import socket

import psutil
from deployment import NAMES, await_exit, until

from atoll.bench import workload
from atoll.bench.api import Api


def test_down_then_up_keeps_everything(paris, kept):
    processes = [psutil.Process(pid) for pid in paris.pids().values()]
    assert paris.atoll("down") == "stopped: paris\n"
    await_exit(processes)
    assert paris.atoll("status") == "no site is running\n"
    assert "paris is not running" in paris.refused("openstack", "server", "list")
    paris.atoll("up")
    assert paris.await_answers() < 60
    kept.check()
    kept.manage()
    assert "already up, nothing to do: paris" in paris.atoll("up")


def test_destroy_leaves_no_process_no_port_and_no_file(make, base_ports, keystone_only):
    cloud, port = make(), next(base_ports)
    cloud.atoll("up", cloud.file({"name": "rome", "port": port, "services": keystone_only}))
    assert cloud.api("rome").expect("identity", "GET", "/users")["users"]
    processes = [psutil.Process(pid) for pid in cloud.pids().values()]
    assert len(processes) >= 4  # supervisor, root, base, keystone's fork server, rome/keystone
    assert cloud.atoll("destroy", "--yes") == "destroyed: rome\n"
    await_exit(processes)
    assert not cloud.root.exists()
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))


def test_second_site_joins_and_leaves_and_the_first_one_does_not_notice(paris, kept, base_ports):
    first, there = paris.pids(), _listed(paris.api())
    assert kept.server in there
    sites = ({"name": "paris", "port": paris.settings().ports["identity"]}, {"name": "lyon", "port": next(base_ports)})
    paris.atoll("up", paris.file(*sites))
    assert {name: pid for name, pid in paris.pids().items() if name in first} == first
    assert paris.await_answers("lyon") < 60
    assert paris.trouble(site="lyon") == "", "a start must log no error"

    api, lyon = paris.api(), paris.api("lyon")
    until(lambda: _accepts(api, lyon, "lyon"), "a token of one site is one of the other, too")
    until(lambda: _listed(lyon) == _listed(api) == there, "one list at both")
    server, _seconds = workload.boot(lyon, workload.prepare(lyon), "elsewhere")
    assert api.expect("compute", "GET", f"/servers/{server}")["server"]["OS-EXT-AZ:availability_zone"] == "lyon"
    kept.check()

    assert paris.atoll("down", "lyon") == "stopped: lyon\n"
    assert {name: pid for name, pid in paris.pids().items() if name in first} == first
    known = {each["id"]: each["status"] for each in api.expect("compute", "GET", "/servers/detail?all_tenants=1")["servers"]}
    assert known == dict.fromkeys(there, "ACTIVE") | {server: "UNKNOWN"}
    assert api.call("compute", "GET", "/servers").headers["x-atoll-missing"] == "lyon"
    assert paris.atoll("destroy", "--yes", "lyon") == "destroyed: lyon\n"
    assert not (paris.root / "sites" / "lyon").exists()
    assert {f"lyon/{name}" for name in NAMES} & paris.pids().keys() == set()
    assert {name: pid for name, pid in paris.pids().items() if name in first} == first
    until(lambda: "x-atoll-missing" not in api.call("compute", "GET", "/servers").headers, "nobody misses lyon any more")
    assert _listed(api) == there, "the existing resources must be unchanged"
    kept.check()


def _listed(api: Api) -> set[str]:
    return {each["id"] for each in api.expect("compute", "GET", "/servers?all_tenants=1")["servers"]}


def _accepts(paris: Api, lyon: Api, where: str) -> bool:
    """Return whether this site's compute API accepts paris's token."""
    asked = paris if where == "paris" else lyon
    own, asked._token = asked._token, paris._token
    try:
        return asked.call("compute", "GET", "/servers").ok
    finally:
        asked._token = own

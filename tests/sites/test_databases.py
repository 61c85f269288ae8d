"""A site on each engine that it can start: servers are booted and deleted, and the data outlive a restart and a killed server."""

import os
import signal
from pathlib import Path

import pytest
from deployment import until
from holdings import server

from atoll.bench import workload
from atoll.services import engines


def boot(api, tenancy, name: str) -> str:
    made: str = api.expect("compute", "POST", "/servers", workload.server_body(tenancy, name))["server"]["id"]
    until(lambda: server(api, made)["status"] != "BUILD", f"{name} built")
    found = server(api, made)
    assert found["status"] == "ACTIVE", found.get("fault")
    return made


@pytest.mark.long
@pytest.mark.parametrize("engine", ["redis", "mariadb", "postgresql"])
def test_servers_boot_and_outlive_a_restart(make, base_ports, engine):
    problem, _hint = engines.obstacle(engine)
    if problem:
        pytest.skip(problem)
    cloud = make()
    paris = {"name": "paris", "port": next(base_ports), "database": {"start": engine}, "compute": "fake", "network": "fake"}
    cloud.atoll("up", cloud.file(paris))
    assert f"{engine}" in cloud.atoll("status")
    settings, api = cloud.settings(), cloud.api()
    assert not sqlite_files_of_services(settings.data) or engine == "redis"  # on Redis they are replicas
    tenancy = workload.prepare(api)
    kept = boot(api, tenancy, "kept")
    workload.delete(api, [boot(api, tenancy, "deleted")])

    os.kill(cloud.pids()[f"paris/{engine}"], signal.SIGKILL)
    until(lambda: cloud.processes()[f"paris/{engine}"].restarts == 1, f"{engine} is started again")
    until(lambda: cloud.processes()[f"paris/{engine}"].state == "ready", f"{engine} is ready again")
    assert [each["id"] for each in api.expect("compute", "GET", "/servers")["servers"]] == [kept]

    cloud.atoll("down")
    cloud.atoll("up")
    cloud.await_answers()
    api = cloud.api()
    assert [each["id"] for each in api.expect("compute", "GET", "/servers")["servers"]] == [kept]
    workload.delete(api, [kept])

    refused = cloud.refused("up", cloud.file(paris | {"database": "sqlite"}))
    assert f"paris has its data in a {engine} of its own" in refused
    shown = "".join(path.read_text(errors="replace") for path in cloud.root.rglob("*.log")) + cloud.atoll("status", "--json")
    shown += "".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in cloud.pids().values())
    assert settings.secrets["database"] not in shown
    cloud.atoll("destroy", "--yes")


def sqlite_files_of_services(data: Path) -> list[str]:
    return [path.name for path in data.glob("*.db") if path.name != "keystone.db"]

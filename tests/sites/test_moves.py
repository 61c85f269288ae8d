"""A site with a server, a network and an image moves its databases through all engines and back; nothing is lost, also by a kill."""

import json
import shutil
import signal
from typing import Any

import pytest
from deployment import Deployment, kill, until
from holdings import Holdings

from atoll.bench import workload
from atoll.bench.api import Api
from atoll.services import engines

LISTS = (
    ("compute", "/servers/detail", "servers"),
    ("compute", "/flavors/detail", "flavors"),
    ("compute", "/os-keypairs", "keypairs"),
    ("image", "/v2/images", "images"),
    ("image", "/v2/metadefs/namespaces", "namespaces"),
    ("network", "/v2.0/networks", "networks"),
    ("network", "/v2.0/subnets", "subnets"),
    ("network", "/v2.0/ports", "ports"),
    ("network", "/v2.0/routers", "routers"),
    ("network", "/v2.0/security-groups", "security_groups"),
    ("network", "/v2.0/security-group-rules", "security_group_rules"),
    ("placement", "/resource_providers", "resource_providers"),
)

PLACES = ("start:mariadb", "start:postgresql", "start:redis", "sqlite")

MINUTES = 40
"""Time limit of the test: four moves, five starts, and a server on each engine, on a busy machine."""


def listed(api: Api) -> dict[str, list[dict[str, Any]]]:
    """Return everything that a site lists; the services' own bookkeeping may change while they start."""
    found = {}
    for service, path, key in LISTS:
        answer = api.expect(service, "GET", path)[key]
        for each in answer:
            for field in ("generation", "updated", "updated_at", "revision_number"):
                each.pop(field, None)
        found[path] = sorted(answer, key=lambda each: json.dumps(each, sort_keys=True))
    return found


def start(cloud: Deployment) -> Api:
    cloud.atoll("site", "start", "paris")
    cloud.await_answers()
    return cloud.api()


@pytest.mark.long
@pytest.mark.timeout(MINUTES * 60)
def test_a_site_moves_through_all_engines_and_back(make, base_ports):
    for engine in engines.SERVERS:
        if problem := engines.obstacle(engine)[0]:
            pytest.skip(problem)
    cloud = make()
    cloud.atoll("up", cloud.file({"name": "paris", "port": next(base_ports), "compute": "fake", "network": "fake"}))
    kept = Holdings(cloud)
    api = cloud.api()
    api.expect("compute", "POST", "/os-keypairs", {"keypair": {"name": "kept"}})
    before = listed(api)
    assert "paris is running" in cloud.refused("database", "move", "paris", "start:mariadb")

    for place in PLACES:
        cloud.atoll("site", "stop", "paris")
        if place == "start:mariadb":
            interrupt(cloud, place)
        told = json.loads(cloud.atoll("database", "move", "paris", place, "--json"))
        assert told["moved"]
        assert sum(each["rows"] for each in told["databases"].values()) > 1000
        assert "already" in cloud.atoll("database", "move", "paris", place)
        api = start(cloud)
        assert listed(api) == before, place
        kept.check()
        cloud.atoll("database", "clean", "--yes", "paris")
        booted = kept.boot(f"on {place}")  # with ids beyond those that were moved
        workload.delete(api, [booted])
    kept.manage()
    remains = {path.name for path in (cloud.settings().data).iterdir()} & {"mariadb", "postgresql", "redis"}
    assert not remains
    cloud.atoll("destroy", "--yes")


def interrupt(cloud: Deployment, place: str) -> None:
    """Kill a move in the middle of its work; the site starts on its old engine, with all data."""
    data = cloud.settings().data
    with cloud.start("database", "move", "paris", place) as process:
        marks = data / "databases" / place.removeprefix("start:")
        until(lambda: (marks / "glance").exists() or process.poll() is not None, "the move has begun")
        assert process.poll() is None, process.communicate()
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert cloud.settings().engine == "sqlite"
    kill(*(pid for name, pid in cloud.pids().items() if name.startswith("paris/schema-")))
    shutil.rmtree(cloud.root / "sites" / "paris" / "etc" / "mariadb")  # it is rendered again

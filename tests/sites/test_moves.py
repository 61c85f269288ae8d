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
    ("image", "/v2/metadefs/namespaces?limit=1000", "namespaces"),
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


CHANGING = frozenset({"generation", "updated", "updated_at", "revision_number"})
"""Fields that the services' own bookkeeping may change while they start."""


def listed(api: Api) -> dict[str, Any]:
    """Return everything that a site lists, in an order that does not depend on the engine."""
    return {path: ordered(api.expect(service, "GET", path)[key]) for service, path, key in LISTS}


LAUNCHED = "OS-SRV-USG:launched_at"
"""A time with microseconds, of which MariaDB's schema keeps whole seconds."""


def ordered(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name: ordered(each) for name, each in value.items() if name not in CHANGING}
        return kept | ({LAUNCHED: str(kept[LAUNCHED]).partition(".")[0]} if LAUNCHED in kept else {})
    if isinstance(value, list):
        return sorted(map(ordered, value), key=lambda each: json.dumps(each, sort_keys=True))
    return value


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

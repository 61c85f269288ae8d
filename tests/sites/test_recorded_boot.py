"""A boot that asks to be recorded is one tree with one root, through the gateway, all services, the bus and the databases."""

from __future__ import annotations

import base64
import json
import secrets
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from deployment import Deployment, until

from atoll.bench import workload
from atoll.bench.traffic.operations import READS, RECORDED_S, SETTLE_S, Actor
from atoll.site.clients import admin_session
from atoll.site.state import State
from atoll.trace.budget import Budget, least, written
from atoll.trace.counts import Counts, count

BUDGET = Path(__file__).with_name("control_traffic.yaml")

ROUNDS = 3
"""Of each count the least of several rounds is compared: lists of extensions and tokens are fetched again every few minutes."""

NEUTRON_EVENTS = "POST /v2.1/os-server-external-events"


def boot(cloud: Deployment, headers: dict[str, str]) -> str:
    """Make a server with a port on a network of its own, by plain HTTP, and return its id."""
    api, settings = cloud.api(), cloud.settings()
    name = f"recorded-{secrets.token_hex(4)}"
    network = api.expect("network", "POST", "/v2.0/networks", {"network": {"name": name}})["network"]["id"]
    subnet = {"network_id": network, "cidr": "10.9.0.0/24", "ip_version": 4}
    api.expect("network", "POST", "/v2.0/subnets", {"subnet": subnet})
    image = api.expect("image", "POST", "/v2/images", {"name": name, "disk_format": "raw", "container_format": "bare"})["id"]
    token = {"X-Auth-Token": admin_session(settings).get_token()}
    url = settings.url("gateway")
    data = {"Content-Type": "application/octet-stream"} | token
    requests.put(f"{url}/image/v2/images/{image}/file", data=b"x" * 1000, headers=data, timeout=60).raise_for_status()
    server = {"name": name, "imageRef": image, "flavorRef": "1", "networks": [{"uuid": network}]}
    answer = requests.post(f"{url}/compute/v2.1/servers", json={"server": server}, headers=headers | token, timeout=60)
    answer.raise_for_status()
    made: str = answer.json()["server"]["id"]
    until(lambda: api.expect("compute", "GET", f"/servers/{made}")["server"]["status"] == "ACTIVE", "the server is active")
    return made


def shown(cloud: Deployment, trace: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(cloud.atoll("trace", "show", trace, "--json"))
    return told


def whole(cloud: Deployment, trace: str) -> dict[str, Any] | None:
    """Return a boot once Neutron's events, which come seconds later, are in it, what they cause, and each span's parent.

    Each process writes its spans in batches of its own, so that a span may be stored before its parent.
    """
    if cloud.run("trace", "show", trace).returncode:
        return None
    told = shown(cloud, trace)
    names = [each["name"] for each in told["tree"]]
    return told if NEUTRON_EVENTS in names and "scheduler update_instance_info" in names and not told["orphans"] else None


@pytest.mark.parametrize("by", ["traceparent", "osprofiler"])
def test_a_boot_is_one_tree(cloud: Deployment, by: str) -> None:
    trace = secrets.token_hex(16)
    if by == "traceparent":
        headers = {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}
    else:
        ids = json.dumps({"base_id": str(uuid.UUID(trace)), "parent_id": str(uuid.uuid4())})
        headers = {"X-Trace-Info": base64.urlsafe_b64encode(ids.encode()).decode(), "X-Trace-HMAC": "of a key that no site knows"}
    made = boot(cloud, headers)
    told = until(lambda: whole(cloud, trace), "the boot is recorded")
    workload.delete(cloud.api(), [made])
    assert (told["roots"], told["orphans"], told["errors"]) == (1, 0, 0)
    spans = told["tree"]
    root = spans[0]
    assert (root["place"], root["name"]) == ("paris/gateway", "POST /compute/v2.1/servers")
    assert told["calls"]["http"] >= 10
    assert told["calls"]["rpc"] >= 4
    assert told["calls"]["sql"] >= 100
    ids = {each["id"]: each for each in spans}
    for each in spans:
        if each["kind"] == "server" and each is not root:
            caller = ids[each["parent"]]
            assert caller["kind"] in {"client", "producer"}, "a server's span needs a client's span as its parent"
            assert abs(each["request"] - caller["request"]) < 200, (
                f"both ends of a hop must agree on the size of the request: {caller} {each}"
            )
        if each["protocol"] in {"http", "rpc"}:
            assert each["request"] > 0
    places = {each["place"].partition("/")[2] for each in spans}
    assert places >= {"gateway", "nova-api", "nova-conductor", "nova-scheduler", "nova-compute", "neutron", "placement", "glance"}


def test_a_client_is_the_root_of_what_it_asks_for(cloud: Deployment) -> None:
    done = cloud.run("trace", "run", "--", "openstack", "flavor", "list")
    assert done.returncode == 0, done.stderr
    assert "m1.nano" in done.stdout
    rows = json.loads(cloud.atoll("trace", "list", "--json"))
    row = next(each for each in rows if each["name"] == "openstack flavor list")
    assert (row["roots"], row["orphans"], row["service"]) == (1, 0, "client")
    told = shown(cloud, row["trace"])
    entered = [each for each in told["tree"] if each["place"] == "paris/gateway" and each["kind"] == "server"]
    assert len(entered) >= 2, "expected a request for a token and one for the list"
    assert cloud.run("trace", "run", "--", "openstack", "flavor", "show", "none").returncode == 1, (
        "the exit code must be that of the program"
    )


def test_requests_without_a_trace_are_seldom_recorded(cloud: Deployment) -> None:
    before = len(json.loads(cloud.atoll("trace", "list", "--limit", "1000", "--json")))
    api = cloud.api()
    for _ in range(200):
        api.expect("compute", "GET", "/flavors")
    assert len(json.loads(cloud.atoll("trace", "list", "--limit", "1000", "--json"))) - before < 20


@pytest.fixture(scope="module")
def actor(cloud: Deployment) -> Iterator[Actor]:
    """Yield a client that measures, and delete the server that a failure leaves."""
    made = Actor.prepare(cloud.api(), State(cloud.root))
    yield made
    if made.server:
        workload.delete(made.api, [made.server])


@pytest.fixture(scope="module")
def rounds(actor: Actor) -> dict[str, list[tuple[str, Counts]]]:
    """The traces and counts of each operation, after a first round that fills caches."""
    found: dict[str, list[tuple[str, Counts]]] = {}
    for number in range(ROUNDS + 1):
        for act in (lambda: actor.boot("paris"), actor.attach, actor.show, actor.list, actor.event, actor.delete):
            sample = act()
            # Until it is recorded, with Neutron's events, which belong to the request that caused them.
            time.sleep(RECORDED_S if sample.operation in READS else SETTLE_S)
            if number:
                found.setdefault(sample.operation, []).append((sample.trace, count([actor.trace(sample)])))
    return found


@pytest.mark.parametrize("operation", ["boot", "attach", "show", "list", "event", "delete"])
def test_control_traffic_stays_within_its_budget(cloud: Deployment, rounds: Any, operation: str, tmp_path: Path) -> None:
    trace, _counts = rounds[operation][-1]
    counts = least(each for _trace, each in rounds[operation])
    file = tmp_path / f"{operation}.json"
    cloud.atoll("trace", "export", trace, "--output", file)
    grown = "\n".join(map(str, Budget.read(BUDGET).excesses(operation, counts)))
    how = f"see the calls: atoll trace show --all {file}\nif it must be so, put this into {BUDGET.name}:\n{written({operation: counts})}"
    assert not grown, f"{grown}\n{how}"

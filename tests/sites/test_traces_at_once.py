"""Boots that are recorded at the same time over three sites give one tree each, with one root, and no span of another's.

`ATOLL_TEST_TRACED_BOOTS` sets their number; 200 take less than four minutes on two busy cores.
"""

import os
import re
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from deployment import Deployment, until

from atoll.bench import workload
from atoll.site import traces
from atoll.site.state import State
from atoll.trace import tree

BOOTS = int(os.environ.get("ATOLL_TEST_TRACED_BOOTS", "60"))
AT_ONCE = 60
SITES = ("paris", "lyon", "nice")
SERVER = re.compile(r"/servers/([0-9a-f-]{36})")
SETTLE_S = 900.0
QUIET_S = 5.0
"""Seconds without a new span: Neutron holds back its events for two."""

pytestmark = [pytest.mark.long, pytest.mark.timeout(300 + 12 * BOOTS)]


@pytest.fixture
def three(make, base_ports) -> Iterator[Deployment]:
    made: Deployment = make()
    file = made.file(*({"name": name, "port": next(base_ports), "compute": "fake", "network": "fake"} for name in SITES))
    data = yaml.safe_load(file.read_text()) | {"trace": {"sample": 0, "size_mb": 4000}}
    file.write_text(yaml.safe_dump(data))
    made.atoll("up", file)
    yield made
    made.atoll("down")


def test_concurrent_boots_are_separate_trees(three):
    apis = {name: three.api(name) for name in SITES}
    tenancies = {name: workload.prepare(api) for name, api in apis.items()}
    for api in apis.values():
        workload.allow(api, BOOTS)  # upstream's default is fewer servers than a site has here

    def boot(number: int) -> tuple[str, str]:
        """Boot at one site, every third time through the gateway of another, and return the ids of the trace and of the server."""
        trace, to = secrets.token_hex(16), SITES[number % 3]
        by = SITES[(number // 3) % 3] if number % 3 == 0 else to
        headers = {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}
        body = workload.server_body(tenancies[to], f"traced-{number}")
        body["server"]["availability_zone"] = to
        answer = apis[by].call("compute", "POST", "/servers", body, headers=headers)
        assert answer.status == 202, answer
        return trace, answer.body["server"]["id"]

    with ThreadPoolExecutor(min(AT_ONCE, BOOTS)) as pool:
        booted = dict(pool.map(boot, range(BOOTS)))
    state = State(three.root)

    def settled() -> bool:
        servers = {each["id"]: each["status"] for each in apis["paris"].expect("compute", "GET", "/servers/detail?limit=1000")["servers"]}
        assert "ERROR" not in servers.values()
        return all(servers.get(each) == "ACTIVE" for each in booted.values())

    until(settled, "all servers are active", SETTLE_S)
    counts = [-1]

    def quiet() -> bool:
        counts.append(sum(each.spans for each in traces.summaries(state, 100_000)))
        time.sleep(QUIET_S)
        return counts[-1] == counts[-2]

    until(quiet, "all spans are written", SETTLE_S)
    found = {each.trace for each in traces.summaries(state, 100_000)}
    assert found == set(booted), "a trace each, and no other"
    own = set(booted.values())
    crossings = 0
    for trace, server in booted.items():
        made = tree.build(traces.spans(state, trace))
        nodes = list(made.walk())
        assert (len(made.roots), made.orphans) == (1, 0), (trace, [each.span for each in made.roots])
        assert made.roots[0].span.name == "POST /compute/v2.1/servers"
        assert len(nodes) > 100, "through all services"
        named = {each for node in nodes for each in SERVER.findall(node.span.attributes.get("url.path", ""))} & own
        assert named <= {server}, "nothing of another boot"
        crossings += len({node.span.site for node in nodes}) > 1
    assert crossings >= BOOTS // 9, "those through another site's gateway are one tree too"

"""The resources of a site that must survive a test and stay manageable."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from deployment import Deployment, until

from atoll.bench import workload
from atoll.bench.api import Api


class Holdings:
    """An image, a network with a subnet and a router, and a running server."""

    def __init__(self, cloud: Deployment) -> None:
        self._cloud = cloud
        api = cloud.api()
        self.tenancy = workload.prepare(api)
        self.router = api.expect("network", "POST", "/v2.0/routers", {"router": {"name": "kept"}})["router"]["id"]
        (self.subnet,) = api.expect("network", "GET", f"/v2.0/subnets?network_id={self.tenancy.network}")["subnets"]
        api.expect("network", "PUT", f"/v2.0/routers/{self.router}/add_router_interface", {"subnet_id": self.subnet["id"]})
        self.server = self.boot("kept")
        self._addresses = server(api, self.server)["addresses"]

    def boot(self, name: str) -> str:
        """Boot a server and wait until it is ACTIVE."""
        return workload.boot(self._cloud.api(), self.tenancy, name)[0]

    def check(self) -> None:
        """Check that all resources still exist."""
        api = self._cloud.api()
        kept = server(api, self.server)
        assert (kept["status"], kept["addresses"]) == ("ACTIVE", self._addresses)
        assert api.expect("image", "GET", f"/v2/images/{self.tenancy.image}")["status"] == "active"
        assert len(api.call("image", "GET", f"/v2/images/{self.tenancy.image}/file").body) > 0
        assert api.expect("network", "GET", f"/v2.0/networks/{self.tenancy.network}")["network"]["status"] == "ACTIVE"
        assert api.expect("network", "GET", f"/v2.0/routers/{self.router}")["router"]["status"] == "ACTIVE"
        (port,) = api.expect("network", "GET", f"/v2.0/ports?device_id={self.server}")["ports"]
        assert port["status"] == "ACTIVE"
        assert self.server in allocations(api)

    def manage(self) -> None:
        """Check that the server can be stopped and started."""
        api = self._cloud.api()
        for action, status in (("os-stop", "SHUTOFF"), ("os-start", "ACTIVE")):
            api.expect("compute", "POST", f"/servers/{self.server}/action", {action: None})
            await_status(api, self.server, status)


def server(api: Api, identifier: str) -> dict[str, Any]:
    found: dict[str, Any] = api.expect("compute", "GET", f"/servers/{identifier}")["server"]
    return found


def await_status(api: Api, identifier: str, status: str) -> None:
    until(lambda: server(api, identifier)["status"] == status, f"server {identifier} {status}")


def allocations(api: Api) -> set[str]:
    """Return the consumers of all allocations."""
    consumers: set[str] = set()
    for provider in api.expect("placement", "GET", "/resource_providers")["resource_providers"]:
        consumers.update(api.expect("placement", "GET", f"/resource_providers/{provider['uuid']}/allocations")["allocations"])
    return consumers


def everything(api: Api) -> dict[str, set[str]]:
    """Return the ids of all resources by kind, which a creation followed by a deletion must not change."""

    def ids(service: str, path: str, key: str) -> set[str]:
        return {item["id"] for item in api.expect(service, "GET", path)[key]}

    return {
        "servers": ids("compute", "/servers?all_tenants=1", "servers"),
        "ports": ids("network", "/v2.0/ports", "ports"),
        "subnets": ids("network", "/v2.0/subnets", "subnets"),
        "networks": ids("network", "/v2.0/networks", "networks"),
        "allocations": allocations(api),
    }


def rows(cloud: Deployment) -> dict[str, int]:
    """Return the number of rows of each table of existing resources; rows of deleted ones may be invisible in the APIs."""
    return {place: len(found) for place, found in _rows(cloud)}


def newest(cloud: Deployment, before: dict[str, int]) -> str:
    """Return the last rows of each table that has more rows than before; see `rows`."""
    return "\n".join(f"{place}: {row}" for place, found in _rows(cloud) for row in found[before.get(place, 0) :])


def _rows(cloud: Deployment) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for name, nova in (("neutron", False), ("placement", False), ("nova_cell1", True)):
        with closing(sqlite3.connect(f"file:{cloud.settings().data}/{name}.db?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            tables = [table for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                found = [dict(row) for row in database.execute(f"SELECT * FROM {table} ORDER BY rowid")]
                if not nova:
                    yield f"{name}.{table}", found
                elif table not in _HISTORY and "deleted" in {column for _, column, *_ in database.execute(f"PRAGMA table_info({table})")}:
                    yield f"{name}.{table}", [row for row in found if row["deleted"] == 0 and row.get("key") != _CLEANED]


_CLEANED = "clean_attempts"
"""The key of a row that nova-compute's task `_run_pending_deletes` gives each deleted server, five minutes after its start and later."""

_HISTORY = {"instance_actions", "instance_actions_events", "instance_extra", "s3_images"}
"""Tables whose rows Nova keeps for deleted servers until they are archived. It recreates an `instance_extra` if an update finds none
(nova/db/main/api.py, `instance_extra_update_by_uuid`), as when a server is deleted while it is being built."""

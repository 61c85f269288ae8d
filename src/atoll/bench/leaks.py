"""Leaks: resources of a measured deployment that outlive the deletion of all its servers."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

from atoll.bench.api import Api


@dataclass(frozen=True)
class Leaks:
    """The numbers of resources that exist after everything was deleted.

    Attributes:
        servers: servers in Nova.
        ports: ports of servers in Neutron.
        allocations: consumers in Placement.
    """

    servers: int
    ports: int
    allocations: int

    @property
    def any(self) -> bool:
        """True if any resource leaked."""
        return bool(self.servers or self.ports or self.allocations)

    def to_json(self) -> dict[str, int]:
        """Return the counts by their names in reports, ready for `json.dumps`."""
        return {f"leaked_{name}": count for name, count in asdict(self).items()}


def count_leaks(api: Api, patience_s: float = 30.0) -> Leaks:
    """Count and return the resources of a deployment after everything was deleted.

    Args:
        api: a client that is signed in as an administrator.
        patience_s: seconds to wait for the end of Nova's clean-up, which goes on in the background after a server is gone.
    """
    deadline = time.monotonic() + patience_s
    while (found := _count(api)).any and time.monotonic() < deadline:
        time.sleep(1)
    return found


def _count(api: Api) -> Leaks:
    servers = api.expect("compute", "GET", "/servers?all_tenants=1")["servers"]
    ports = api.expect("network", "GET", "/v2.0/ports")["ports"]
    consumers: set[str] = set()
    for provider in api.expect("placement", "GET", "/resource_providers")["resource_providers"]:
        consumers.update(api.expect("placement", "GET", f"/resource_providers/{provider['uuid']}/allocations")["allocations"])
    return Leaks(len(servers), sum(port["device_owner"].startswith("compute:") for port in ports), len(consumers))

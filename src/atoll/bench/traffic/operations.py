"""The operations that are measured, each with a trace of its own."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from atoll.bench import workload
from atoll.bench.api import Answer, Api, refused
from atoll.bench.failure import failed
from atoll.bench.waiting import wait_until
from atoll.site import traces
from atoll.site.state import State
from atoll.trace.tree import Trace

POLL_S = 0.02
"""Seconds between two requests for a server's status: the resolution of the wall time of boots and deletions."""

SETTLE_S = 4.0
"""Seconds to wait until all consequences of an operation have happened and are recorded; Neutron collects events for two seconds."""

RECORDED_S = 1.0
"""Seconds to wait until a request that causes no events is recorded."""

READS = frozenset(("show", "list"))


@dataclass
class TracedOperation:
    """One measurement of an operation.

    Attributes:
        operation: the name of the operation.
        trace: the id of the operation's trace.
        wall_s: seconds until the client had its result.
        cpu_s: seconds of processor time that all processes of the cloud used for the operation; 0 if they were not measured.
    """

    operation: str
    trace: str
    wall_s: float
    cpu_s: float = 0.0


@dataclass
class Actor:
    """A client of a cloud.

    Attributes:
        api: the client, signed in as an administrator.
        state: the state directory of the cloud, whose traces are read.
        tenancy: the resources that servers need.
        network: the id of a second network with a subnet, to which servers are attached.
        name: the name of the cloud in reports.
        processor_s: returns the seconds of processor time that the cloud has used.
        idle: the processor time that the idle cloud uses, in seconds per second.
        server: the id of the server that is being measured; empty if there is none.
        port: the id of the last attached port; empty if there is none.
        label: the name of that server.
    """

    api: Api
    state: State
    tenancy: workload.Tenancy
    network: str
    name: str = ""
    processor_s: Callable[[], float] = lambda: 0.0
    idle: float = 0.0
    server: str = ""
    port: str = ""
    label: str = ""

    @classmethod
    def prepare(cls, api: Api, state: State) -> Actor:
        """Upload an image, create two networks, and return a client that uses them."""
        tenancy = workload.prepare(api)
        network = api.expect("network", "POST", "/v2.0/networks", {"network": {"name": "second"}})["network"]["id"]
        api.expect("network", "POST", "/v2.0/subnets", {"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.91.0.0/16"}})
        return cls(api, state, tenancy, network)

    def traced(self, operation: str, service: str, method: str, path: str, body: Any = None) -> tuple[TracedOperation, Answer]:
        """Send the request of an operation, have it recorded as a trace, and return the traced operation and the answer.

        Raises:
            AtollError: `bench.failed`: the request was refused.
        """
        trace = secrets.token_hex(16)
        begun = time.monotonic()
        answer = self.api.call(service, method, path, body, headers=_traceparent(trace, "01"))
        sample = TracedOperation(operation, trace, time.monotonic() - begun)
        if not answer.ok:
            raise refused(f"{operation}: {method} {path}", answer)
        return sample, answer

    def quiet(self, service: str, method: str, path: str, body: Any = None) -> Answer:
        """Send a request that is not recorded, and return its answer."""
        return self.api.call(service, method, path, body, headers=_traceparent(secrets.token_hex(16), "00"))

    def costed(self, act: Callable[[], TracedOperation]) -> TracedOperation:
        """Carry out an operation, and measure its processor time too, including that of the events that the operation causes."""
        begun, used = time.monotonic(), self.processor_s()
        sample = act()
        time.sleep(RECORDED_S if sample.operation in READS else SETTLE_S)
        sample.cpu_s = max(0.0, self.processor_s() - used - self.idle * (time.monotonic() - begun))
        return sample

    def boot(self, host: str, port: str = "") -> TracedOperation:
        """Boot a server at a host, with a new port or an existing one, and wait until the server is ACTIVE."""
        self.label = f"traffic-{secrets.token_hex(4)}"
        body = workload.server_body(self.tenancy, self.label)
        body["server"]["host"] = host
        if port:
            body["server"]["networks"] = [{"port": port}]
        begun = time.monotonic()
        sample, answer = self.traced("boot on a port" if port else "boot", "compute", "POST", "/servers", body)
        self.server = answer.body["server"]["id"]
        wait_until(self._is_active, f"{self.label} ACTIVE", workload.BOOT_TIMEOUT_S, POLL_S)
        sample.wall_s = time.monotonic() - begun
        return sample

    def boot_on_port(self, host: str) -> TracedOperation:
        """Create a port, and boot a server on it."""
        port = {"port": {"network_id": self.tenancy.network}}
        answer = self.quiet("network", "POST", "/v2.0/ports", port)
        if not answer.ok:
            raise refused("POST /v2.0/ports", answer)
        return self.boot(host, answer.body["port"]["id"])

    def _is_active(self) -> bool:
        server = self.quiet("compute", "GET", f"/servers/{self.server}").body["server"]
        if server["status"] == "ERROR":
            raise failed(f"{server['name']} went to ERROR: {server.get('fault', {}).get('message', 'no reason was given')}")
        return bool(server["status"] == "ACTIVE")

    def attach(self) -> TracedOperation:
        """Attach a new port on the second network to the server."""
        body = {"interfaceAttachment": {"net_id": self.network}}
        sample, answer = self.traced("attach", "compute", "POST", f"/servers/{self.server}/os-interface", body)
        self.port = answer.body["interfaceAttachment"]["port_id"]
        return sample

    def show(self) -> TracedOperation:
        """Request the server by its id, as a polling client does."""
        return self.traced("show", "compute", "GET", f"/servers/{self.server}")[0]

    def list(self) -> TracedOperation:
        """List servers with their details, filtered by the server's name."""
        return self.traced("list", "compute", "GET", f"/servers/detail?name={self.label}")[0]

    def event(self) -> TracedOperation:
        """Change a port, so that Neutron sends Nova an event; the wall time includes only the request."""
        return self.traced("event", "network", "PUT", f"/v2.0/ports/{self.port}", {"port": {"name": secrets.token_hex(4)}})[0]

    def delete(self) -> TracedOperation:
        """Delete the server, and wait until it is gone."""
        begun = time.monotonic()
        sample, _answer = self.traced("delete", "compute", "DELETE", f"/servers/{self.server}")
        wait_until(partial(self._is_gone, self.server), f"{self.server} gone", workload.BOOT_TIMEOUT_S, POLL_S)
        sample.wall_s = time.monotonic() - begun
        self.server = self.port = ""
        return sample

    def _is_gone(self, server: str) -> bool:
        return self.quiet("compute", "GET", f"/servers/{server}").status == 404

    def trace(self, sample: TracedOperation) -> Trace:
        """Return the recorded trace of an operation."""
        return traces.find(self.state, sample.trace)[0]


def _traceparent(trace: str, flags: str) -> dict[str, str]:
    return {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-{flags}"}

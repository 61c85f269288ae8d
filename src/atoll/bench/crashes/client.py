"""A client that repeats each request until it is acknowledged, and keeps a log of all answers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any

from atoll.bench.api import Answer, Api
from atoll.bench.failure import failed
from atoll.bench.faults.client import judged, judged_error
from atoll.bench.faults.log import Attempt, Outcome
from atoll.bench.faults.operation import Operation, Session
from atoll.bench.faults.workloads import WORKLOADS

ASK_AGAIN_S = 0.3
PATIENCE_S = 60.0
"""Seconds during which a request is repeated. A killed service is restarted in less time."""

GONE = (404, 410)
CONFLICT = 409


@dataclass
class RetryingClient:
    """A client that repeats each request that was not acknowledged.

    Attributes:
        api: a client of the gateway of `site`, signed in.
        site: the site of the client.
        tenancy: the ids of the image, flavor and network of servers.
        sites: the names of all sites.
        attempts: the log of the client's requests.
        networks: the ids of the networks that the client created.
        expects_no_copies: whether other sites must hold no copies of these networks, because the requests that made the copies failed.
    """

    api: Api
    site: str
    tenancy: Mapping[str, str]
    sites: tuple[str, ...]
    attempts: list[Attempt] = field(default_factory=list)
    networks: list[str] = field(default_factory=list)
    expects_no_copies: bool = False

    def __post_init__(self) -> None:
        self._session = Session(self.tenancy)

    def id(self, resource: str) -> str:
        """Return the id of a resource that the client created."""
        return self._session.id(resource)

    def use_network(self) -> str:
        """Create a network with a subnet, and use it for later servers.

        Returns:
            The id of the network.
        """
        network = self.api.expect("network", "POST", "/v2.0/networks", {"network": {"name": "brought"}})["network"]["id"]
        subnet = {"network_id": network, "ip_version": 4, "cidr": "10.91.0.0/24"}
        self.api.expect("network", "POST", "/v2.0/subnets", {"subnet": subnet})
        self.networks.append(network)
        self.tenancy = {**self.tenancy, "network": network}
        self._session.tenancy = self.tenancy
        return str(network)

    def make(self, type_: str, name: str, **fields: Any) -> str:
        """Create a resource; repeat this until it is acknowledged.

        Each attempt uses another name, because an attempt without an answer may still succeed.

        Args:
            type_: the type of the resource, such as `server`.
            name: the first part of the name.
            fields: the fields of the resource, besides the name.

        Returns:
            The name of the acknowledged resource.

        Raises:
            AtollError: `bench.failed`: no attempt was acknowledged in time.
        """
        for number in self._tries(f"{type_} {name}"):
            resource = f"{name}-{number}"
            answer = self._planned(Operation(0.0, f"{type_}.create", resource, {"name": resource, **fields}))
            if answer is not None and answer.ok:
                return resource
        raise AssertionError

    def retry(self, kind: str, resource: str, **fields: Any) -> None:
        """Repeat an operation on a resource until it is acknowledged or the resource is gone.

        Raises:
            AtollError: `bench.failed`: the operation was refused, or not acknowledged in time.
        """
        for _number in self._tries(f"{kind} {resource}"):
            answer = self._planned(Operation(0.0, kind, resource, fields))
            done = answer is not None and (answer.ok or answer.status in GONE)
            # A repeated request whose first attempt succeeded is refused as a conflict.
            if done or (answer is not None and answer.status == CONFLICT and self._unknown(kind, resource)):
                return

    def _unknown(self, kind: str, resource: str) -> bool:
        return any((each.kind, each.resource, each.outcome) == (kind, resource, "unknown") for each in self.attempts)

    def act(self, kind: str, resource: str, service: str, method: str, path: str, body: Any) -> Answer | None:  # noqa: PLR0913, PLR0917 - the parts of a request
        """Make one request that is not part of a workload; return `None` if there is no answer."""
        return self._log(kind, resource, {}, self.id(resource), lambda: self.api.call(service, method, path, body))

    def act_until_answered(self, kind: str, resource: str, path: str, body: Any) -> None:
        """Request an action on a server repeatedly, until the server's site answers; a refusal is an answer too.

        Raises:
            AtollError: `bench.failed`: there was no answer in time.
        """
        for _number in self._tries(f"{kind} {resource}"):
            answer = self.act(kind, resource, "compute", "POST", path, body)
            if answer is not None and answer.status < 500:
                return

    def server(self, resource: str) -> Mapping[str, Any]:
        """Return a server that the client created; empty if the server does not exist, or there is no answer."""
        try:
            answer = self.api.call("compute", "GET", f"/servers/{self.id(resource)}")
        except (OSError, HTTPException):
            return {}
        return answer.body["server"] if answer.ok else {}

    def await_server(self, resource: str, good: Callable[[Mapping[str, Any]], bool], patience_s: float = PATIENCE_S) -> Mapping[str, Any]:
        """Wait until a server satisfies a condition, or can no longer satisfy it.

        Returns:
            The last state of the server.
        """
        deadline = time.monotonic() + patience_s
        while True:
            server = self.server(resource)
            if server and good(server):
                return server
            if time.monotonic() > deadline or (server and server["status"] == "ERROR"):
                return server
            time.sleep(0.1)

    def await_gone(self, resource: str, patience_s: float = PATIENCE_S) -> None:
        """Wait until a server is gone, at most `patience_s` seconds."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            try:
                if self.api.call("compute", "GET", f"/servers/{self.id(resource)}").status in GONE:
                    return
            except (OSError, HTTPException):
                pass
            time.sleep(0.1)

    def _tries(self, what: str) -> Any:
        deadline, number = time.monotonic() + PATIENCE_S, 0
        while time.monotonic() < deadline:
            yield number
            number += 1
            time.sleep(ASK_AGAIN_S)
        raise failed(f"{what} was not acknowledged within {PATIENCE_S:.0f} s: {self.attempts[-1]}")

    def _planned(self, operation: Operation) -> Answer | None:
        work = WORKLOADS[operation.type]
        asked = work.request(self._session, operation)
        assert asked is not None, f"{operation.resource} was never made"
        answer = self._log(
            operation.kind,
            operation.resource,
            operation.fields,
            asked.id,
            lambda: self.api.call(asked.service, asked.method, asked.path, asked.body, asked.data),
            work.made,
        )
        if answer is not None and answer.ok and not asked.id:
            self._session.learn(operation.resource, self.attempts[-1].id)
        return answer

    def _log(  # noqa: PLR0913, PLR0917 - the parts of a request
        self,
        kind: str,
        resource: str,
        fields: Mapping[str, Any],
        id_: str,
        ask: Callable[[], Answer],
        made: Callable[[Answer], str] = lambda _answer: "",
    ) -> Answer | None:
        sent = time.monotonic()
        answer: Answer | None = None
        try:
            answer = ask()
            outcome, why = judged(answer), f"{answer.status} {'' if answer.ok else json.dumps(answer.body)[:200]}".strip()
            id_ = id_ or (made(answer) if answer.ok else "")
        except (OSError, HTTPException) as error:
            outcome, why = judged_error(error), f"{type(error).__name__}: {error}"
        self.attempts.append(self._attempt(kind, resource, fields, id_, sent, outcome, why))
        return answer

    def _attempt(  # noqa: PLR0913, PLR0917 - the parts of a request
        self, kind: str, resource: str, fields: Mapping[str, Any], id_: str, sent: float, outcome: Outcome, why: str
    ) -> Attempt:
        client, number = f"{self.site}/0", len(self.attempts)
        return Attempt(client, number, kind, resource, fields, id_, sent, time.monotonic(), outcome, why)

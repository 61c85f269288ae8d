"""A lean client of OpenStack's APIs, the same for all that is measured.

The official clients spend more processor time on a request than a small site spends on answering it, and would blur the ratios.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from atoll.bench.measure import failed

TIMEOUT_S = 120.0
"""Seconds that an answer may take; whoever runs out of patience sooner learns nothing."""

_MICROVERSIONS = {"compute": "compute 2.90", "placement": "placement 1.36"}


@dataclass(frozen=True)
class Answer:
    """What a server said.

    Attributes:
        status: of HTTP.
        body: the decoded JSON; None if there was none.
        headers: in lower case.
    """

    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def ok(self) -> bool:
        """True for a success."""
        return 200 <= self.status < 300


class Api:
    """One account's view of one deployment. Threads may share it.

    Args:
        url: of the identity API, with `/v3`.
        password: of the account.
        user: the account, of the default domain.
        observe: told the status of every answer.
        project: that the account works in, of the default domain.
    """

    def __init__(
        self,
        url: str,
        password: str,
        user: str = "admin",
        observe: Callable[[str, str, int], None] | None = None,
        project: str = "admin",
    ) -> None:
        self._url = url
        self._password = password
        self._user = user
        self._observe = observe
        self._project = project
        self._project_id = ""
        self._token = ""
        self._endpoints: dict[str, str] = {"identity": url}

    def sign_in(self) -> None:
        """Get a token, and learn from it where the other APIs are.

        Raises:
            OSError, http.client.HTTPException: there was no answer.
            AtollError: `bench.failed`: the answer is not a token.
        """
        domain = {"id": "default"}
        identity = {"methods": ["password"], "password": {"user": {"name": self._user, "domain": domain, "password": self._password}}}
        scope = {"project": {"name": self._project, "domain": domain}}
        answer = self.call("identity", "POST", "/auth/tokens", {"auth": {"identity": identity, "scope": scope}})
        if answer.status != 201:
            raise refused("POST /auth/tokens", answer)
        self._token = answer.headers["x-subject-token"]
        self._project_id = answer.body["token"].get("project", {}).get("id", "")
        for service in answer.body["token"].get("catalog", []):
            for endpoint in service["endpoints"]:
                if endpoint["interface"] == "public":
                    self._endpoints[service["type"]] = endpoint["url"]

    @property
    def token(self) -> str:
        """What `sign_in` got."""
        return self._token

    @property
    def project(self) -> str:
        """The id of the project that `sign_in` was for; empty before."""
        return self._project_id

    def call(  # noqa: PLR0913, PLR0917, RUF100 - what a request is made of
        self,
        service: str,
        method: str,
        path: str,
        body: Any = None,  # noqa: ANN401, RUF100
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Make a request on a connection of its own.

        Args:
            service: its type in the catalogue.
            method: of HTTP.
            path: below the service's endpoint.
            body: sent as JSON.
            data: sent as it is, instead.
            headers: further ones, which win over the usual.

        Raises:
            OSError, http.client.HTTPException: there was no answer.
        """
        url = urlsplit(self._endpoints[service] + path)
        sent = {"Accept": "application/json", "Content-Type": "application/octet-stream" if data else "application/json"}
        if self._token:
            sent["X-Auth-Token"] = self._token
        if service in _MICROVERSIONS:
            sent["OpenStack-API-Version"] = _MICROVERSIONS[service]
        payload = data if data is not None else json.dumps(body).encode() if body is not None else None
        connection = self._connection(url.hostname or "", url.port or 80)
        try:
            connection.request(method, f"{url.path}?{url.query}" if url.query else url.path, payload, sent | dict(headers or {}))
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        if self._observe:
            self._observe(method, f"{service} {path}", response.status)
        return Answer(response.status, _decoded(text), {name.lower(): value for name, value in response.getheaders()})

    def _connection(self, host: str, port: int) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)

    def expect(self, service: str, method: str, path: str, body: Any = None, data: bytes | None = None) -> Any:  # noqa: ANN401, RUF100
        """Make a request that must succeed; see `call`.

        Returns:
            The decoded body.

        Raises:
            AtollError: `bench.failed`: it did not.
        """
        try:
            answer = self.call(service, method, path, body, data)
        except (OSError, http.client.HTTPException) as error:
            raise failed(f"{service} {method} {path}: no answer: {error}") from error
        if not answer.ok:
            raise refused(f"{service} {method} {path}", answer)
        return answer.body


def refused(what: str, answer: Answer) -> Exception:
    """The error for an answer that is none of those expected."""
    return failed(f"{what}: HTTP {answer.status}: {json.dumps(answer.body)[:300]}")


def _decoded(text: bytes) -> Any:  # noqa: ANN401, RUF100
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text[:300].decode(errors="replace")

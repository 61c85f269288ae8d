"""A client of OpenStack's APIs that needs little processor time, used for all measured deployments.

The official clients need more processor time for a request than a small site needs for its answer, so they would distort the measurements.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from atoll.bench.failure import failed

TIMEOUT_S = 120.0
"""Seconds to wait for an answer."""

_MICROVERSIONS = {"compute": "compute 2.90", "placement": "placement 1.36"}


@dataclass(frozen=True)
class Answer:
    """The answer of a server.

    Attributes:
        status: the HTTP status.
        body: the decoded JSON; `None` if the answer has no body.
        headers: the headers, with names in lower case.
    """

    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def ok(self) -> bool:
        """True if the status is a success."""
        return 200 <= self.status < 300


class Api:
    """A client of one deployment with one account; threads may share it.

    Args:
        url: the URL of the identity API, with `/v3`.
        password: the password of the account.
        user: the name of the account in the default domain.
        observe: called with the method, path, status and body of every answer.
        project: the name of the account's project in the default domain.
    """

    def __init__(
        self,
        url: str,
        password: str,
        user: str = "admin",
        observe: Callable[[str, str, int, bytes], None] | None = None,
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
        """Get a token, and take the endpoints of the other APIs from its catalogue.

        Raises:
            OSError, http.client.HTTPException: there was no answer.
            AtollError: `bench.failed`: the answer is not a token.
        """
        answer = self.call("identity", "POST", "/auth/tokens", self.credentials())
        if answer.status != 201:
            raise refused("POST /auth/tokens", answer)
        self._token = answer.headers["x-subject-token"]
        self._project_id = answer.body["token"].get("project", {}).get("id", "")
        for service in answer.body["token"].get("catalog", []):
            for endpoint in service["endpoints"]:
                if endpoint["interface"] == "public":
                    self._endpoints[service["type"]] = endpoint["url"]

    def credentials(self) -> dict[str, Any]:
        """Return the body of a request for a token."""
        domain = {"id": "default"}
        identity = {"methods": ["password"], "password": {"user": {"name": self._user, "domain": domain, "password": self._password}}}
        scope = {"project": {"name": self._project, "domain": domain}}
        return {"auth": {"identity": identity, "scope": scope}}

    def endpoint(self, service: str) -> str:
        """Return the URL of a service from the token's catalogue; call `sign_in` before."""
        return self._endpoints[service]

    def url(self, service: str, path: str) -> str:
        """Return the URL of a path below a service's endpoint."""
        return self._endpoints[service] + path

    @property
    def token(self) -> str:
        """The token from `sign_in`."""
        return self._token

    @property
    def project(self) -> str:
        """The id of the token's project; empty before `sign_in`."""
        return self._project_id

    def call(  # noqa: PLR0913, PLR0917 - the parts of a request
        self,
        service: str,
        method: str,
        path: str,
        body: Any = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request on a new connection, and return the answer, of any status.

        Args:
            service: the type of the service in the catalogue.
            method: the HTTP method.
            path: the path below the service's endpoint.
            body: the body, sent as JSON.
            data: a body of bytes, which replaces `body`.
            headers: further headers, which override those that this method sets.

        Raises:
            OSError, http.client.HTTPException: there was no answer.
        """
        url = urlsplit(self.url(service, path))
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
            self._observe(method, f"{service} {path}", response.status, text)
        return Answer(response.status, _decoded(text), {name.lower(): value for name, value in response.getheaders()})

    def _connection(self, host: str, port: int) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)

    def expect(self, service: str, method: str, path: str, body: Any = None, data: bytes | None = None) -> Any:
        """Make a request that must succeed; see `call`.

        Returns:
            The decoded body.

        Raises:
            AtollError: `bench.failed`: the request did not succeed.
        """
        try:
            answer = self.call(service, method, path, body, data)
        except (OSError, http.client.HTTPException) as error:
            raise failed(f"{service} {method} {path}: no answer: {error}") from error
        if not answer.ok:
            raise refused(f"{service} {method} {path}", answer)
        return answer.body


def refused(what: str, answer: Answer) -> Exception:
    """Return the `bench.failed` error for an answer that is not a success.

    Args:
        what: the description of the request, such as its method and path.
        answer: the answer.
    """
    return failed(f"{what}: HTTP {answer.status}: {json.dumps(answer.body)[:300]}")


def _decoded(text: bytes) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text[:300].decode(errors="replace")

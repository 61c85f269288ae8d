"""API clients with a short time limit, and a function that judges whether a request was executed."""

from __future__ import annotations

import http.client
from collections.abc import Mapping

from atoll.bench.api import Answer, Api
from atoll.bench.faults.log import Outcome

PATIENCE_S = 60.0
"""Seconds to wait for an answer while some sites are unreachable and the machine is busy starting sites."""

UNAUTHORIZED = 401


class Client(Api):
    """A client of its site's gateway."""

    def _connection(self, host: str, port: int) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(host, port, timeout=PATIENCE_S)


class Insider(Client):
    """A client of a site's own services, without the gateway: their answers show the resources that this site holds.

    Args:
        endpoints: the URLs of the services by type.
        password: the password of the cloud's administrator.
    """

    def __init__(self, endpoints: Mapping[str, str], password: str) -> None:
        super().__init__(endpoints["identity"], password)
        self._own = dict(endpoints)

    def sign_in(self) -> None:
        """Get a token, but ignore the catalogue, whose endpoints are those of gateways."""
        super().sign_in()
        self._endpoints = dict(self._own)


def judged(answer: Answer) -> Outcome:
    """Return the outcome of a request by its answer; with a status of 500 or more, the outcome is unknown."""
    if answer.ok:
        return "acknowledged"
    return "failed" if answer.status < 500 else "unknown"


def judged_error(error: Exception) -> Outcome:
    """Return the outcome of a request without an answer: it certainly failed only if no connection was made."""
    return "failed" if isinstance(error, ConnectionRefusedError) else "unknown"

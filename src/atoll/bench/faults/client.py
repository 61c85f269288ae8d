"""Clients that learn in time that nobody answers, and that know what they know of a request."""

from __future__ import annotations

import http.client
from collections.abc import Mapping

from atoll.bench.api import Answer, Api
from atoll.bench.faults.log import Outcome

PATIENCE_S = 60.0
"""Seconds that an answer may take, in a cloud of which parts are missing, on a machine that starts sites meanwhile."""

UNAUTHORIZED = 401


class Client(Api):
    """Talks to the gateway of its site."""

    def _connection(self, host: str, port: int) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(host, port, timeout=PATIENCE_S)


class Insider(Client):
    """Talks to a site's own services, past its gateway: what they answer is what this site holds.

    Args:
        endpoints: by type of service, its URL.
        password: of the cloud's administrator.
    """

    def __init__(self, endpoints: Mapping[str, str], password: str) -> None:
        super().__init__(endpoints["identity"], password)
        self._own = dict(endpoints)

    def sign_in(self) -> None:
        """Get a token; the catalogue, which leads to gateways, is not minded."""
        super().sign_in()
        self._endpoints = dict(self._own)


def judged(answer: Answer) -> Outcome:
    """What an answer says of whether it was done: whoever answers 5xx may have done it, or may not know of another who did."""
    if answer.ok:
        return "acknowledged"
    return "failed" if answer.status < 500 else "unknown"


def judged_error(error: Exception) -> Outcome:
    """The same of a request without an answer: only who was never connected has certainly not been heard."""
    return "failed" if isinstance(error, ConnectionRefusedError) else "unknown"

"""The deployment that an experiment measures: a site, or the usual deployment."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from atoll.bench.api import Api
from atoll.bench.failure import failed
from atoll.errors import AtollError

_INTERVAL_S = 0.1


@dataclass(frozen=True)
class Target:
    """A deployment to measure.

    Attributes:
        url: the URL of the deployment's identity API, with `/v3`.
        password: the password of the deployment's administrator.
        host: the name of the deployment's compute host.
        pids: returns the ids of the deployment's current processes.
    """

    url: str
    password: str
    host: str
    pids: Callable[[], list[int]]

    def api(self) -> Api:
        """Return a client of its APIs that has not signed in yet."""
        return Api(self.url, self.password)


def await_answers(target: Target, alive: Callable[[], None], timeout_s: float) -> None:
    """Wait until all five APIs have given a correct answer to an authenticated request.

    The APIs are asked one after the other, to keep the load small.

    Args:
        target: the deployment.
        alive: raises an error if the deployment has failed, so that waiting is useless.
        timeout_s: seconds to wait for all five APIs together.

    Raises:
        AtollError: `bench.failed`: an API did not answer in time; or the error that `alive` raises.
    """
    api = target.api()
    deadline = time.monotonic() + timeout_s
    for name, correct in _CORRECT.items():
        while not _holds(api, target.host, correct):
            alive()
            if time.monotonic() > deadline:
                raise failed(f"the {name} API at {target.url} has not answered correctly within {timeout_s:.0f} s")
            time.sleep(_INTERVAL_S)


def _holds(api: Api, host: str, correct: Callable[[Api, str], bool]) -> bool:
    # LookupError: the answer, such as a list of API versions, lacks an expected field.
    with suppress(OSError, http.client.HTTPException, AtollError, LookupError):
        return correct(api, host)
    return False


def _identity(api: Api, _host: str) -> bool:
    api.sign_in()
    return True


def _image(api: Api, _host: str) -> bool:
    return isinstance(api.expect("image", "GET", "/v2/images")["images"], list)


def _network(api: Api, _host: str) -> bool:
    return isinstance(api.expect("network", "GET", "/v2.0/networks")["networks"], list)


def _placement(api: Api, host: str) -> bool:
    providers = api.expect("placement", "GET", "/resource_providers")["resource_providers"]
    return any(provider["name"] == host for provider in providers)


def _compute(api: Api, host: str) -> bool:
    services = api.expect("compute", "GET", "/os-services?binary=nova-compute")["services"]
    return any(service["host"] == host and service["state"] == "up" for service in services)


_CORRECT: dict[str, Callable[[Api, str], bool]] = {
    "identity": _identity,
    "image": _image,
    "network": _network,
    "placement": _placement,
    "compute": _compute,
}
"""For each API, a check of its answers: a token, lists, and a compute host that is known and alive."""

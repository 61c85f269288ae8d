"""What an experiment needs to know of a deployment, whoever made it."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from atoll.bench.api import Api
from atoll.bench.measure import failed
from atoll.errors import AtollError

_INTERVAL_S = 0.1


@dataclass(frozen=True)
class Target:
    """A deployment that can be measured.

    Attributes:
        url: of its identity API, with `/v3`.
        password: of its administrator.
        host: the name of its compute host.
        pids: all its processes, now.
    """

    url: str
    password: str
    host: str
    pids: Callable[[], list[int]]

    def api(self) -> Api:
        """A client, not signed in yet."""
        return Api(self.url, self.password)


def await_answers(target: Target, alive: Callable[[], None], timeout_s: float) -> None:
    """Wait until all five APIs have given an authenticated, correct answer; the one after the other, so that nothing is flooded.

    Args:
        target: the deployment.
        alive: raises once there is nothing to wait for any more.
        timeout_s: for all of them together.

    Raises:
        AtollError: `bench.failed`: one did not answer in time, or what `alive` raises.
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
    # LookupError: an answer without what it should have, such as a list of versions.
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
"""Of each API, what it must be able to say: a token, lists, and that the compute host is known and alive."""

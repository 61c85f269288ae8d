"""Asks the gateway of a site, for the command line: HTTP on a Unix socket that only the site's owner may open."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from atoll.cloud import Cloud
from atoll.errors import REGISTRY, AtollError
from atoll.gateway.control import SOCKET
from atoll.site.sites import applied_cloud, check_known
from atoll.site.state import State

TIMEOUT_S = 30.0


class _Connection(http.client.HTTPConnection):
    """To a Unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("gateway", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(state: State, site: str | None, method: str, path: str, body: object = None, timeout_s: float = TIMEOUT_S) -> Any:  # noqa: PLR0913, PLR0917
    """Ask a site's gateway something.

    Args:
        state: where the cloud is kept.
        site: its name; None means the first full site.
        method: HTTP's.
        path: such as `/members`.
        body: to be sent as JSON.
        timeout_s: seconds to wait for the answer.

    Returns:
        The answer's JSON.

    Raises:
        AtollError: `site.unknown`, `cloud.not_found`; `site.not_running`: its gateway doesn't answer; and what the gateway itself refuses.
    """
    check_known(state, [site] if site is not None else [])
    name = _full(applied_cloud(state), site)
    connection = _Connection(state.site(name) / "run" / SOCKET, timeout_s)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        found = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        message = f"the gateway of {name} does not answer: {error}"
        raise AtollError("site.not_running", message, f"`atoll status {name}`; `atoll site start {name}`") from None
    finally:
        connection.close()
    if answer.status >= 400:
        code = found.get("code", "")
        raise AtollError(code if code in REGISTRY else "gateway.failed", str(found.get("message", answer.reason)), found.get("hint"))
    return found


def _full(cloud: Cloud | None, site: str | None) -> str:
    """The full site that stands for a site: itself, or its control site."""
    if cloud is None:
        assert site is not None
        return site
    if site is None:
        return cloud.full_sites[0].name
    return next(cloud.control_of(each).name for each in cloud.sites if each.name == site)


def say_goodbye(state: State, sites: Iterable[str]) -> None:
    """Have sites that are about to be deleted tell the others that they leave; one that doesn't run stays a member that is away."""
    for site in sites:
        with suppress(AtollError):
            ask(state, site, "POST", "/leave")


def tell_of_members(state: State, sites: Iterable[str]) -> None:
    """Have the gateways of sites look anew who there is; those that don't run do so when they start."""
    for site in sites:
        with suppress(AtollError):
            ask(state, site, "POST", "/reload")

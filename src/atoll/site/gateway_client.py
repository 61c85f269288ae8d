"""The client of a site's gateway, over the gateway's control socket."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from atoll.cloud import Cloud
from atoll.control.client import ControlClient
from atoll.errors import AtollError
from atoll.gateway.options import CONTROL_SOCKET
from atoll.site.sites import applied_cloud, check_known
from atoll.site.state import State


def ask(state: State, site: str | None, verb: str, *, timeout_s: float | None = None, **fields: object) -> Any:
    """Return the answer of a site's gateway to a request.

    Args:
        state: the state directory.
        site: the site's name; `None` means the first full site.
        verb: the verb of the request, such as `members`.
        timeout_s: seconds to wait for the answer; `None` means `atoll.control.client.ANSWER_S`.
        fields: the fields of the request.

    Raises:
        AtollError: `site.unknown`, `cloud.not_found`; `site.not_running`: the gateway does not answer; and the gateway's own errors.
    """
    check_known(state, [site] if site is not None else [])
    return _client(state, _full(applied_cloud(state), site)).ask(verb, timeout_s=timeout_s, **fields)


def ask_any(state: State, site: str | None, verb: str, *, but: str = "", **fields: object) -> Any:
    """Return the answer of a gateway to a request that any full site of the cloud can answer.

    Args:
        state: the state directory.
        site: the site's name; `None` means the first full site whose gateway runs.
        verb: the verb of the request, such as `members`.
        but: the name of a site that is not chosen.
        fields: the fields of the request.

    Raises:
        AtollError: as for `ask`.
    """
    if site is None and (cloud := applied_cloud(state)):
        names = [each.name for each in cloud.full_sites if each.name != but]
        site = next((name for name in names if _listens(state, name)), None)
    return ask(state, site, verb, timeout_s=None, **fields)


def _client(state: State, name: str) -> ControlClient:
    def lost(why: str) -> AtollError:
        message = f"the gateway of {name} does not answer: {why}"
        return AtollError("site.not_running", message, f"`atoll status {name}`; `atoll site start {name}`")

    return ControlClient(state.site(name) / "run" / CONTROL_SOCKET, lost, unknown="gateway.failed")


def _listens(state: State, name: str) -> bool:
    try:
        return _client(state, name).listens()
    except AtollError:
        return False


def _full(cloud: Cloud | None, site: str | None) -> str:
    """Return the name of the full site whose gateway serves a site: the site itself or its control site."""
    if cloud is None:
        assert site is not None
        return site
    if site is None:
        return cloud.full_sites[0].name
    return next(cloud.control_of(each).name for each in cloud.sites if each.name == site)


def announce_departure(state: State, sites: Iterable[str]) -> None:
    """Announce that sites leave the cloud, before they are deleted; a site that does not run stays an unreachable member."""
    for site in sites:
        with suppress(AtollError):
            ask(state, site, "leave")


def reload_members(state: State, sites: Iterable[str]) -> None:
    """Make the gateways of sites reload the list of members; those that do not run read it when they start."""
    for site in sites:
        with suppress(AtollError):
            ask(state, site, "reload")

"""Finds the site of a device: the one that a request names, or the one at the other end of the connection.

The standards know two kinds of tokens. A *three-legged* one identifies the device itself: the body must not name a device. A *two-legged*
one belongs to an application's server: the body must name one. Keystone's tokens identify no device. So a token with the role that the
operator names is treated as two-legged. Any other token is treated as three-legged; its device is the one at the other end of the
connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from atoll.gateway.edge.access_networks import AccessNetworks
from atoll.gateway.edge.device import Identifier
from atoll.gateway.edge.front import Question
from atoll.gateway.edge.problem import Problem
from atoll.gateway.options import Options


@dataclass(frozen=True)
class Location:
    """The place of a device.

    Attributes:
        site: the site.
        used: the identifier by which the device was found; `None` if the request names none.
    """

    site: str
    used: Identifier | None

    @property
    def device(self) -> dict[str, Any]:
        """The field `device` of an answer; empty if the request names no device."""
        return {"device": {self.used.name: self.used.value}} if self.used is not None else {}


class Locator:
    """Finds the sites of devices by the settings of one gateway.

    Args:
        options: the gateway's settings.
    """

    def __init__(self, options: Options) -> None:
        self._here = options.site
        self._role = str(options.discovery.get("role", ""))
        self._networks = AccessNetworks(options.discovery.get("serves", {}))

    def locate(self, question: Question, device: Sequence[Identifier]) -> Location:
        """Return the place of the device that a request concerns.

        Args:
            question: the request.
            device: the identifiers of the device that the body names; empty if it names none.

        Raises:
            Problem: the caller must name a device, or must not; or no site serves the device's network.
        """
        if self._role and self._role in question.caller.roles:
            return self._of_device(device)
        return Location(self._of_connection(question.remote, device), None)

    def _of_device(self, device: Sequence[Identifier]) -> Location:
        """Return the place of a device that the body names."""
        if not device:
            raise Problem(422, "the token does not identify a device: expected `device` in the body", "MISSING_IDENTIFIER")
        known = [identifier for identifier in device if identifier.addresses]
        if not known:
            raise Problem(422, "devices are known by ipv4Address and ipv6Address only", "UNSUPPORTED_IDENTIFIER")
        for identifier in known:
            for address in identifier.addresses:
                if (site := self._networks.site_of(address)) is not None:
                    return Location(site, identifier)
        raise Problem(404, "no site serves the network of this device", "IDENTIFIER_NOT_FOUND")

    def _of_connection(self, remote: str | None, device: Sequence[Identifier]) -> str:
        """Return the site of the device at the other end of the connection: that of its access network, or else this one."""
        if device:
            raise Problem(
                422,
                "this token asks about the device that sends the request only: expected a body without `device`",
                "UNNECESSARY_IDENTIFIER",
            )
        site = self._networks.site_of(ip_address(remote)) if remote else None
        return site or self._here

"""The settings of edge discovery: the access networks of sites, the role that may ask about any device, and announcements by DNS-SD.

As in `model`, a field's `description` ends the sentence "expected …".
"""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import IPv4Network, ip_network
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from atoll.cloud.trust import SiteName

_INTERFACE = re.compile(r"(?![0-9./]+$)[^\s/:%]{1,15}")
"""The names that Linux allows for interfaces, without those that consist of digits and dots alone, which look like addresses."""


class Discovery(BaseModel):
    """The rules by which a site answers which site is nearest to a device; see docs/edge-discovery.md.

    Attributes:
        serves: the access networks of sites. A device whose address is in one of them is nearest to that site; of nested prefixes, the
            longest applies. A device that asks from any other address is nearest to the site that it asks.
        device_role: the name of a role of Keystone. A user whose token has this role may ask about any device, and must name one. Default:
            nobody may.
        announce: the local networks at which sites announce their gateways by DNS-SD: the name of an interface of the site's machine, or an
            IPv4 network in which the machine has an address. Default: no site is announced.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    serves: dict[SiteName, list[str]] = Field(
        default_factory=dict, description="a mapping of sites to lists of prefixes, such as {paris: [10.1.0.0/16]}"
    )
    device_role: str | None = Field(default=None, min_length=1, max_length=255, description="the name of a role, such as edge-application")
    announce: dict[SiteName, str] = Field(
        default_factory=dict, description="a mapping of sites to interfaces or networks, such as {paris: lan0, lyon: 10.2.0.0/16}"
    )

    @field_validator("serves")
    @classmethod
    def _check_serves(cls, serves: dict[str, list[str]]) -> dict[str, list[str]]:
        owners: dict[str, str] = {}
        for site, prefixes in serves.items():
            for prefix in prefixes:
                try:
                    network = ip_network(prefix)
                except ValueError as error:
                    raise _error(
                        f"{prefix} of {site} is not a prefix ({error}): expected a network such as 10.1.0.0/16 or 2001:db8::/32"
                    ) from None
                owner = owners.setdefault(str(network), site)
                if owner != site:
                    raise _error(f"{owner} and {site} both serve {network}: expected each prefix at one site")
        return serves

    @field_validator("announce")
    @classmethod
    def _check_announce(cls, announce: dict[str, str]) -> dict[str, str]:
        for site, network in announce.items():
            if _INTERFACE.fullmatch(network):
                continue
            try:
                IPv4Network(network)
            except ValueError as error:
                expected = "expected the name of an interface, such as lan0, or a network such as 10.2.0.0/16"
                raise _error(f"{network} of {site} is neither an interface nor an IPv4 network ({error}): {expected}") from None
        return announce

    @property
    def options(self) -> dict[str, Any]:
        """The settings as plain data for the gateway: `role`, empty if there is none, and `serves`, the site of each prefix."""
        networks = {str(ip_network(prefix)): site for site, prefixes in self.serves.items() for prefix in prefixes}
        return {"role": self.device_role or "", "serves": networks}


def complaint_of_discovery(discovery: Discovery, compute_sites: Collection[str]) -> tuple[str, str] | None:
    """Return a field that names a compute site, and a description of the error; `None` if no field does.

    Args:
        discovery: the settings.
        compute_sites: the names of the compute sites, which have no gateway.
    """
    for field, sites in (("serves", discovery.serves), ("announce", discovery.announce)):
        for site in sites:
            if site in compute_sites:
                return field, f"{site} is a compute site, which has no gateway: expected its control site"
    return None


def _error(text: str) -> PydanticCustomError:
    return PydanticCustomError("discovery_invalid", "{text}", {"text": text})

"""The settings of edge discovery: the access networks of sites, and the role that may ask about any device.

As in `model`, a field's `description` ends the sentence "expected …".
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_network
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from atoll.cloud.trust import SiteName


class Discovery(BaseModel):
    """The rules by which a site answers which site is nearest to a device; see docs/edge-discovery.md.

    Attributes:
        serves: the access networks of sites. A device whose address is in one of them is nearest to that site; of nested prefixes, the
            longest applies. A device that asks from any other address is nearest to the site that it asks.
        device_role: the name of a role of Keystone. A user whose token has this role may ask about any device, and must name one. Default:
            nobody may.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    serves: dict[SiteName, list[str]] = Field(
        default_factory=dict, description="a mapping of sites to lists of prefixes, such as {paris: [10.1.0.0/16]}"
    )
    device_role: str | None = Field(default=None, min_length=1, max_length=255, description="the name of a role, such as edge-application")

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

    @property
    def options(self) -> dict[str, Any]:
        """The settings as plain data for the gateway: `role`, empty if there is none, and `serves`, the site of each prefix."""
        networks = {str(ip_network(prefix)): site for site, prefixes in self.serves.items() for prefix in prefixes}
        return {"role": self.device_role or "", "serves": networks}


def complaint_of_discovery(discovery: Discovery, compute_sites: Collection[str]) -> str | None:
    """Return a description of the error in the access networks of a cloud's sites; `None` if they are valid.

    Args:
        discovery: the settings with the access networks.
        compute_sites: the names of the compute sites, which have no gateway.
    """
    wrong = [site for site in discovery.serves if site in compute_sites]
    return f"{wrong[0]} is a compute site, which has no gateway: expected its control site" if wrong else None


def _error(text: str) -> PydanticCustomError:
    return PydanticCustomError("discovery_invalid", "{text}", {"text": text})

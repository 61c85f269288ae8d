"""Edge discovery for a device: asks a site's gateway which site is nearest to the device.

The module uses the credentials of every OpenStack client (`clouds.yaml`, or `OS_…` in the environment), and needs no state directory.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from keystoneauth1.exceptions import ClientException, ConnectFailure, DiscoveryFailure, HttpError, Unauthorized
from openstack.config import OpenStackConfig
from openstack.exceptions import ConfigException

from atoll.errors import AtollError

PATH = "/simple-edge-discovery/v2/retrieve-closest-edge-cloud-zone"

OVERLAY = "X-Atoll-Overlay"
"""Header with the id of the image of an overlay from which a server is to be started."""

TIMEOUT_S = 30
"""Seconds to wait for the gateway's answer; it may ask sites over slow links."""

_GATEWAY = re.compile(r"(https?://[^/?#]+)(/strict)?(/scope/[^/]+)?/identity(/v3)?/?")
"""The URL of Keystone behind a site's gateway, with or without a scope."""


@dataclass(frozen=True)
class Zone:
    """The site that is nearest to a device.

    Attributes:
        id: the site's id as an edge cloud zone (a UUID).
        name: the name of the site.
        provider: the name of the cloud.
        region: the region of the credentials; all sites of a cloud are in one region.
        url: the URL of Keystone behind that site's gateway; empty if the asked gateway does not know the URL.
    """

    id: str
    name: str
    provider: str
    region: str
    url: str

    def data(self) -> dict[str, str]:
        """Return the zone, ready for `json.dumps`."""
        return asdict(self)


def find(cloud: str | None = None, device: IPv4Address | IPv6Address | None = None, overlay: str | None = None) -> Zone:
    """Return the site nearest to a device.

    Args:
        cloud: the name of a cloud in clouds.yaml; `None` means `OS_CLOUD`, or else the variables `OS_…`.
        device: the device's address; `None` means the device that asks.
        overlay: the id of the image of an overlay; of sites that are about as near, one that holds its base or launch image is returned.

    Raises:
        AtollError: `discovery.credentials`: the credentials are missing or not those of a gateway; `discovery.refused`: the gateway refuses
            the request, or its answer is not a zone; `discovery.unreachable`: the gateway does not answer.
    """
    with translated_errors():
        config, gateway = credentials(cloud)
        answer = config.get_session().post(
            gateway + PATH,
            json={} if device is None else {"device": _identifier(device)},
            headers={"x-correlator": str(uuid.uuid4())} | ({OVERLAY: overlay} if overlay else {}),
            raise_exc=False,
            redirect=False,
            timeout=TIMEOUT_S,
        )
    return _zone(answer, config.get_region_name() or "")


def credentials(cloud: str | None) -> tuple[Any, str]:
    """Return the credentials of a client, and the URL of the gateway that they name, without a path.

    Args:
        cloud: the name of a cloud in clouds.yaml; `None` means `OS_CLOUD`, or else the variables `OS_…`.

    Raises:
        AtollError: `discovery.credentials`: the credentials are not those of a gateway.
        ConfigException: they are missing or incomplete.
    """
    config = OpenStackConfig().get_one(cloud=cloud)
    auth_url = str(config.config.get("auth", {}).get("auth_url") or "")
    found = _GATEWAY.fullmatch(auth_url)
    if found is None:
        expected = "expected the URL of a site's gateway, such as http://10.77.1.1:8080/identity/v3"
        raise AtollError("discovery.credentials", f"the auth_url of the credentials is {auth_url!r:.80}: {expected}", HINT)
    return config, found[1]


HINT = "name a cloud of clouds.yaml by --cloud or OS_CLOUD, or run the command in `atoll shell SITE`"


def _identifier(device: IPv4Address | IPv6Address) -> dict[str, Any]:
    if isinstance(device, IPv6Address):
        return {"ipv6Address": str(device)}
    # The standard demands a private address besides the public one. Without address translation, both are the same.
    return {"ipv4Address": {"publicAddress": str(device), "privateAddress": str(device)}}


def _zone(answer: Any, region: str) -> Zone:
    try:
        body = answer.json()
    except ValueError:
        body = None
    if not isinstance(body, Mapping):
        body = {}
    if answer.status_code != 200:
        why = str(body.get("message") or f"HTTP {answer.status_code}, and no message: the gateway may be of an earlier version")
        code = "discovery.unreachable" if answer.status_code == 503 else "discovery.refused"
        # Join the lines, so that a gateway can't make its message look like the command's own hint.
        message = " ".join(f"{why} ({body.get('code', answer.reason)})".split())
        raise AtollError(code, message, _ADVICE.get(str(body.get("code"))))
    try:
        identifier, name, provider = (str(body[f"edgeCloud{each}"]) for each in ("ZoneId", "ZoneName", "Provider"))
    except KeyError as error:
        raise AtollError("discovery.refused", f"the answer of the gateway has no {error}: expected an edge cloud zone") from None
    return Zone(identifier, name, provider, region, str(answer.headers.get("X-Atoll-Zone-Url", "")))


_ADVICE = {
    "UNNECESSARY_IDENTIFIER": "leave out --device: only users with a role that the operator names may ask about other devices",
    "MISSING_IDENTIFIER": "give --device ADDRESS: with this role, the token stands for an application and not for a device",
}


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn the errors of keystoneauth, and of the configuration of clouds, into those of this project."""
    try:
        yield
    except (ConfigException, Unauthorized) as error:
        raise AtollError("discovery.credentials", first_line(error), HINT) from None
    except (ConnectFailure, DiscoveryFailure, HttpError) as error:
        raise AtollError("discovery.unreachable", first_line(error)) from None
    except ClientException as error:
        raise AtollError("discovery.credentials", first_line(error), HINT) from None

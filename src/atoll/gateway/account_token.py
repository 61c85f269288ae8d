"""Tokens of the gateway's own accounts, for requests that it makes without a user: one account for each service, with rights there alone.

The accounts belong to this site alone: no other site accepts their tokens, and the gateway sends none of them to another site. Each account
has one role, which makes it an administrator of one service (`policy.d/gateway.yaml` of that service) and gives it no rights in Keystone.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from multidict import CIMultiDict

from atoll.gateway.options import Options
from atoll.gateway.request.call import Call, Unreachable
from atoll.gateway.request.headers import request_id
from atoll.identifiers import GATEWAY_PROJECT, gateway_role
from atoll.mesh.agreed_time import since_boot_ns

if TYPE_CHECKING:
    from atoll.gateway.sites import Sites

MARGIN_S = 300
"""Seconds before its expiry at which the gateway renews a token."""


def _steady_s() -> float:
    return since_boot_ns() / 1e9


class AccountToken:
    """A token of the gateway's account for one service, which this site's Keystone issues on first use.

    Args:
        sites: sends the request to this site's Keystone.
        options: the gateway's settings.
        service: the service that accepts the token: compute, image or network.
        clock: a monotonic clock, in seconds. The site's time of day may be wrong, and Keystone uses the agreed time.
    """

    def __init__(self, sites: Sites, options: Options, service: str, clock: Callable[[], float] = _steady_s) -> None:
        self._sites = sites
        self._options = options
        self._service = service
        self._lock = asyncio.Lock()
        self._token = ""
        self._clock = clock
        self._until_s = 0.0

    async def get(self) -> str:
        """Return a valid token; request a new one if the present one expires soon.

        Raises:
            Unreachable: Keystone does not answer, or refuses the account.
        """
        async with self._lock:
            if self._clock() > self._until_s - MARGIN_S:
                await self._renew()
            return self._token

    async def _renew(self) -> None:
        here = self._options.site
        user = {"name": gateway_role(self._service), "domain": {"id": "default"}, "password": self._options.password}
        scope = {"project": {"id": GATEWAY_PROJECT}}
        body = json.dumps({"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}).encode()
        headers = CIMultiDict({"Content-Type": "application/json"})
        reply = await self._sites.send(here, Call("POST", "identity", "/v3/auth/tokens", "nocatalog", headers, body, request_id(None)))
        if reply.status != 201:
            raise Unreachable(here, f"Keystone refuses the gateway's own account for {self._service} (HTTP {reply.status})")
        issued, expires = (datetime.fromisoformat(reply.json()["token"][name]) for name in ("issued_at", "expires_at"))
        self._until_s = self._clock() + (expires - issued).total_seconds()
        self._token = reply.headers["X-Subject-Token"]

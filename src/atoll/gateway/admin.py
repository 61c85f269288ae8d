"""The gateway's own tokens, for what it does without a user: one account for each service, with no rights at any other.

The accounts are this site's alone, so that no other site takes their tokens, and none of them is sent to another site. Each holds one
role, which makes it an administrator of one service (`policy.d/gateway.yaml` of that service), and of Keystone nothing.
"""

from __future__ import annotations

import asyncio
import json
import time
from datetime import datetime
from typing import TYPE_CHECKING

from multidict import CIMultiDict

from atoll.gateway.options import Options
from atoll.gateway.request.call import Call, Unreachable
from atoll.gateway.request.headers import request_id
from atoll.identifiers import GATEWAY_PROJECT, gateway_role

if TYPE_CHECKING:
    from atoll.gateway.sites import Sites

MARGIN_S = 300
"""Seconds before its end from which a token counts as used up."""


class OwnToken:
    """A token of the gateway's account for one service, got from the site's own Keystone when first needed.

    Args:
        sites: to ask.
        options: of the gateway.
        service: the service that takes it: compute, image or network.
    """

    def __init__(self, sites: Sites, options: Options, service: str) -> None:
        self._sites = sites
        self._options = options
        self._service = service
        self._lock = asyncio.Lock()
        self._token = ""
        self._until = 0.0

    async def get(self) -> str:
        """Return the token.

        Raises:
            Unreachable: Keystone does not answer, or gives none.
        """
        async with self._lock:
            if time.time() > self._until - MARGIN_S:
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
            raise Unreachable(here, f"Keystone refuses the gateway itself (HTTP {reply.status})")
        self._until = datetime.fromisoformat(reply.json()["token"]["expires_at"]).timestamp()
        self._token = reply.headers["X-Subject-Token"]

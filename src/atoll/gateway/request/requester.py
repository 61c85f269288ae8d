"""The user, project and roles of a request, as Keystone confirms them for the request's token.

A pending operation stores these instead of the token, which may expire before the operation is carried out and must not be written to disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache
from multidict import CIMultiDict

from atoll.gateway.request.call import Call, Unreachable

if TYPE_CHECKING:
    from atoll.gateway.sites import Sites

REMEMBERED = 4096
"""Number of tokens whose users are remembered."""

FRESH_S = 60.0
"""Seconds after which Keystone is asked again, because roles may have changed."""

_ADMIN = "admin"


@dataclass(frozen=True)
class Requester:
    """The user behind a request.

    Attributes:
        user: the user's id.
        project: the id of the token's project; empty if the token has none.
        roles: the names of the user's roles in the project, at the time of the request.
    """

    user: str
    project: str
    roles: tuple[str, ...]

    @property
    def is_admin(self) -> bool:
        """True if the user is an administrator of the cloud."""
        return _ADMIN in self.roles

    def without_admin(self) -> Requester:
        """Return the same requester without the role `admin`."""
        return replace(self, roles=tuple(role for role in self.roles if role != _ADMIN))

    def dump(self) -> str:
        """Return the requester as JSON, for `load`."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> Requester | None:
        """Return the requester that `dump` wrote; `None` if the text holds none."""
        try:
            return cls.parse(json.loads(text))
        except (ValueError, RecursionError):
            return None

    @classmethod
    def parse(cls, fields: Any) -> Requester | None:
        """Return the requester in a parsed JSON value; `None` if it holds none."""
        try:
            return cls(str(fields["user"]), str(fields["project"]), tuple(str(role) for role in fields["roles"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            return None


class Requesters:
    """Looks up the requesters of requests in this site's Keystone, and remembers them for `FRESH_S`.

    Args:
        sites: sends requests to this site's Keystone.
    """

    def __init__(self, sites: Sites) -> None:
        self._sites = sites
        self._known: LRUCache[str, tuple[float, Requester]] = LRUCache(REMEMBERED)

    async def of(self, call: Call) -> Requester | None:
        """Return the requester of a request; `None` if its token is not valid, or Keystone does not answer."""
        if not call.token:
            return None
        key = hashlib.sha256(call.token.encode()).hexdigest()
        now = asyncio.get_running_loop().time()
        known = self._known.get(key)
        if known is not None and now - known[0] < FRESH_S:
            return known[1]
        found = await self._ask(call)
        if found is not None:
            self._known[key] = (now, found)
        return found

    async def _ask(self, call: Call) -> Requester | None:
        said = {"X-Auth-Token": call.token, "X-Subject-Token": call.token, "OpenStack-Identity-Access-Rules": "1.0"}
        headers = CIMultiDict(said)
        asked = Call("GET", "identity", "/v3/auth/tokens", "nocatalog", headers, None, call.request_id)
        try:
            reply = await self._sites.send(self._sites.here, asked)
            return _read(reply.json()["token"]) if reply.ok else None
        except (Unreachable, ValueError, KeyError, TypeError):
            return None


def _read(token: Mapping[str, Any]) -> Requester:
    project = token.get("project") or {}
    return Requester(str(token["user"]["id"]), str(project.get("id", "")), tuple(str(role["name"]) for role in token.get("roles", ())))

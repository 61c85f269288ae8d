"""Asks services for what a reference names, here and elsewhere, for a user or with the gateway's own rights."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from multidict import CIMultiDict

from atoll.gateway.answers import GONE, words
from atoll.gateway.bring import references as kinds
from atoll.gateway.bring.references import Mention, Reference, named_by
from atoll.gateway.request.call import Call, Unreachable
from atoll.gateway.request.paths import is_uuid, segment
from atoll.gateway.resolve import sight
from atoll.gateway.resolve.references import KINDS
from atoll.gateway.sites import Sites

LOG = logging.getLogger(__name__)

LOOK_S = 30.0
"""Seconds that a site may take to say whether it has something, as long as it is there at all."""

MAKE_S = 60.0
"""Seconds that a service of this site may take to make something."""


class Failed(Exception):  # noqa: N818 - what a service has done, as Unreachable is
    """A service refused what bringing something here needs."""


class Refusal(Failed):
    """A request is refused, because of what it refers to.

    Args:
        message: one sentence for the client, which names the site that has it.
        status: of the answer.
        away: sites that can't be reached and may have it.
    """

    def __init__(self, message: str, status: int = 409, away: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.away = tuple(away)


class Elsewhere(Failed):
    """A request is for another site, which has what it refers to: the gateway sends it there."""


@dataclass(frozen=True)
class Found:
    """Another site that has what is looked for, and what it says of it."""

    site: str
    body: Any


@dataclass(frozen=True)
class Asker:
    """Asks on behalf of one request.

    Attributes:
        sites: to ask.
        token: of the user.
        request_id: of the user's request.
    """

    sites: Sites
    token: str
    request_id: str

    def call(self, method: str, service: str, target: str, token: str, body: Any = None) -> Call:
        """A request for a service, in the version that this package speaks."""
        path, _, query = target.partition("?")
        headers = CIMultiDict({"X-Auth-Token": token, "Accept": "application/json"})
        if service == "compute":
            headers["OpenStack-API-Version"] = f"compute {VERSION}"
        bare = Call(method, service, path, query, headers, None, self.request_id)
        return bare if body is None else bare.with_(json=body)

    async def get(self, site: str, service: str, target: str) -> Any:
        """Return what a service shows to the user, also if the token's access rules forbid to look; None if it shows nothing.

        Raises:
            Unreachable: it does not answer.
        """
        reply = await self.sites.send(site, self.call("GET", service, target, self.token), LOOK_S)
        if reply.status in sight.REFUSALS:
            reply = await sight.see(self.sites, site, self.token, service, target)
        return reply.json() if reply.ok else None

    async def make(  # noqa: PLR0913 - a request is made of so many parts
        self,
        method: str,
        service: str,
        target: str,
        body: Any = None,
        *,
        token: str | None = None,
        exists: bool = False,
        gone: bool = False,
    ) -> Any:
        """Have a service of this site make or change something, with the gateway's own account for that service if no token is given.

        Args:
            method: POST, PUT or DELETE.
            service: which.
            target: path and query.
            body: to be sent as JSON.
            token: whose rights.
            exists: True if it does not matter that it is there already.
            gone: True if it does not matter that it is not there any more.

        Returns:
            The answer's body; None if it was there already, or is not there any more.

        Raises:
            Failed: the service refuses.
            Unreachable: it does not answer.
        """
        call = self.call(method, service, target, token or await self.sites.own_token(service), body)
        reply = await self.sites.send(self.sites.here, call, MAKE_S)
        if (exists and reply.status == 409) or (gone and reply.status in GONE):
            return None
        if not reply.ok:
            raise Failed(f"{service} answers {reply.status} to {method} {target}: {words(reply)}")
        return reply.json() if reply.body else {}

    async def make_as_user(
        self, method: str, service: str, what: tuple[str, Any], instead: Callable[[sight.Viewer], tuple[str, Any]], *, exists: bool = False
    ) -> Any:
        """Have a service of this site make something with the user's rights, also if the token's access rules forbid it.

        Args:
            method: POST or PUT.
            service: which.
            what: target, and body to be sent as JSON.
            instead: target and body that mean the same when the gateway's own account asks, for the user that Keystone confirms.
            exists: as for `make`.

        Raises:
            Failed: the service refuses.
            Unreachable: it does not answer.
        """
        viewer = await sight.restricted(self.sites, self.token)
        if viewer is not None:
            return await self.make(method, service, *instead(viewer), exists=exists)
        return await self.make(method, service, *what, token=self.token, exists=exists)

    async def project(self) -> str:
        """The id of the user's project.

        Raises:
            Failed: the token is of none.
            Unreachable: Keystone does not answer.
        """
        call = self.call("GET", "identity", "/v3/auth/tokens?nocatalog", self.token)
        call.headers["X-Subject-Token"] = self.token
        call.headers["OpenStack-Identity-Access-Rules"] = "1.0"
        reply = await self.sites.send(self.sites.here, call, LOOK_S)
        project = reply.json()["token"].get("project") if reply.ok else None
        if project is None:
            raise Failed("the token is of no project")
        return str(project["id"])

    async def look(self, site: str, reference: Reference) -> Any:
        """What a site shows to the user of what is referred to; None if nothing that can be used.

        Raises:
            Unreachable: the service does not answer.
        """
        if reference.kind == kinds.ZONE:
            return {"zoneName": site} if reference.id == site else None
        try:
            service, target, key = _where(reference)
        except ValueError:
            return None  # no resource can have this id
        body = await self.get(site, service, target)
        found = body[key] if body is not None and key else body
        if reference.kind == kinds.IMAGE and found is not None and found["status"] != "active":
            return None
        return found or None

    async def shows(self, site: str, reference: Reference) -> bool:
        """Return whether a site shows something to the user; `False` if it does not answer."""
        return await self._try(site, reference) is not None

    async def shows_path(self, site: str, service: str, path: str) -> bool:
        """Return whether a site shows the user something at a path; `False` if it does not answer."""
        try:
            return await self.get(site, service, path) is not None
        except Unreachable:
            return False

    async def check(self, kind: str, resource: Mapping[str, Any], site: str) -> None:
        """Make sure that this site has all that a resource refers to and that can't be brought.

        Args:
            kind: of the resource.
            resource: as another site shows it.
            site: that site.

        Raises:
            Refusal: this site lacks something.
            Unreachable: a service does not answer.
        """
        for mention in named_by(kind, resource):
            if mention.field.action is kinds.Action.REFUSE and await self.look(self.sites.here, mention.reference) is None:
                here, named = self.sites.here, mention.reference
                raise Refusal(f"{kind} {resource['id']} of {site} can't be brought to {here}, which lacks {named} that it names")

    async def elsewhere(self, reference: Reference) -> list[Found]:
        """The other sites that have it, nearest first."""
        sites = self.sites.reachable()
        answers = await asyncio.gather(*(self._try(site, reference) for site in sites))
        return [Found(site, body) for site, body in zip(sites, answers, strict=True) if body is not None]

    async def _try(self, site: str, reference: Reference) -> Any:
        try:
            return await self.look(site, reference)
        except Unreachable as error:
            LOG.info("%s: looking for %s: %s", self.request_id, reference, error)
            return None


VERSION = "2.61"
"""Of Nova's API: the first in which a flavor shows its extra specs."""


def may_stay(mention: Mention) -> bool:
    """Return whether `stays` may be true of what a request refers to; only then it has to be looked for beforehand."""
    return mention.field.action is kinds.Action.REFUSE or mention.reference.kind == kinds.NETWORK


def stays(mention: Mention, found: Sequence[Found]) -> bool:
    """Return whether what a request refers to is used at its own site alone.

    Args:
        mention: of a thing that this site lacks.
        found: the sites that have it.
    """
    return mention.field.action is kinds.Action.REFUSE or any(is_external(mention.reference, each.body) for each in found)


def sentence(mention: Mention, found: Found, here: str) -> str:
    """Say that something is at another site, and what may be done about it."""
    site, hint, what = found.site, mention.field.hint, str(mention.reference)
    if is_external(mention.reference, found.body):
        what, hint = f"external {what}", _EXTERNAL
    said = f": {hint.format(here=here, site=site)}" if hint else ""
    return f"{what} is at {site} and can't be used at {here}{said}"


_EXTERNAL = "it leads out of its own site: use an external network of {here}, or create what needs it at {site}"


def is_external(reference: Reference, body: Mapping[str, Any]) -> bool:
    """Return whether a thing is an external network: a copy, without the hardware of its site, would lead nowhere."""
    return reference.kind == kinds.NETWORK and bool(body.get("router:external"))


def _where(reference: Reference) -> tuple[str, str, str]:
    """Service, target, and the key in the answer."""
    if reference.kind == kinds.SECURITY_GROUP:
        attribute = "id" if is_uuid(reference.id.lower()) else "name"
        return "network", f"/v2.0/security-groups?{urlencode({attribute: reference.id})}", "security_groups"
    if reference.kind == kinds.FLOATING_IP:
        return "network", f"/v2.0/floatingips?{urlencode({'floating_ip_address': reference.id})}", "floatingips"
    if reference.kind == kinds.HOST:
        return "compute", f"/v2.1/os-services?{urlencode({'binary': 'nova-compute', 'host': reference.id})}", "services"
    kind = KINDS.get(reference.kind)
    return (kind.service, f"{kind.path}/{segment(reference.id)}", kind.key) if kind else ("", "", "")

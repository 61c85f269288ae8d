"""Sends the gateway's own questions about references to services, with the user's token or the gateway's own account."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from multidict import CIMultiDict

from atoll.gateway.answers import GONE, error_text
from atoll.gateway.bring import references as kinds
from atoll.gateway.bring.references import Reference, named_by
from atoll.gateway.request.call import Call, Unreachable
from atoll.gateway.request.paths import is_uuid, segment
from atoll.gateway.resolve import visibility
from atoll.gateway.resolve.references import KINDS
from atoll.gateway.sites import Sites

LOG = logging.getLogger(__name__)

LOOK_S = 30.0
"""Seconds to wait for a reachable site's answer whether it has a resource."""

MAKE_S = 60.0
"""Seconds to wait for a service of this site to create or change a resource."""


class BringFailed(Exception):
    """A resource could not be brought."""


class ServiceRefused(BringFailed):
    """A service of this site has answered a request with an error.

    Args:
        message: one sentence with the service's own message.
        status: the HTTP status.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class BringRefused(BringFailed):
    """A request is refused because of a resource that it refers to.

    Args:
        message: one sentence for the client, which names the site that has the resource.
        status: the HTTP status of the answer.
        away: unreachable sites that may have the resource.
    """

    def __init__(self, message: str, status: int = 409, away: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.away = tuple(away)


class BelongsElsewhere(BringFailed):
    """A request belongs to the site that has a resource to which it refers; the gateway sends it there."""


@dataclass(frozen=True)
class RemoteResource:
    """A resource at another site.

    Attributes:
        site: the site.
        body: the resource, as that site shows it to the user.
    """

    site: str
    body: Any


@dataclass(frozen=True)
class ServiceClient:
    """The requests that the gateway sends on behalf of one request.

    Attributes:
        sites: sends requests to the sites.
        token: the user's token.
        request_id: the id of the user's request.
    """

    sites: Sites
    token: str
    request_id: str

    def call(self, method: str, service: str, target: str, token: str, body: Any = None) -> Call:
        """Return a request for a service, in the API version that this package uses."""
        path, _, query = target.partition("?")
        headers = CIMultiDict({"X-Auth-Token": token, "Accept": "application/json"})
        if service == "compute":
            headers["OpenStack-API-Version"] = f"compute {VERSION}"
        bare = Call(method, service, path, query, headers, None, self.request_id)
        return bare if body is None else bare.with_(json=body)

    async def get(self, site: str, service: str, target: str) -> Any:
        """Return a service's answer to a GET as the user sees it, even if the token's access rules forbid the GET; `None` for a refusal.

        Raises:
            Unreachable: the service does not answer.
        """
        reply = await self.sites.send(site, self.call("GET", service, target, self.token), LOOK_S)
        if reply.status in visibility.REFUSALS:
            reply = await visibility.view(self.sites, site, self.token, service, target)
        return reply.json() if reply.ok else None

    async def make(  # noqa: PLR0913 - each is a part of a request
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
        """Have a service of this site create, change or delete a resource.

        Args:
            method: POST, PUT or DELETE.
            service: the service.
            target: the path, with the query.
            body: the body, sent as JSON.
            token: the token; by default, that of the gateway's own account for the service.
            exists: `True` if the resource may exist already.
            gone: `True` if the resource may be gone already.

        Returns:
            The answer's body; `None` if the resource existed already, or was gone already.

        Raises:
            ServiceRefused: the service refuses.
            Unreachable: the service does not answer.
        """
        call = self.call(method, service, target, token or await self.sites.own_token(service), body)
        reply = await self.sites.send(self.sites.here, call, MAKE_S)
        if (exists and reply.status == 409) or (gone and reply.status in GONE):
            return None
        if not reply.ok:
            raise ServiceRefused(f"{service} answers {reply.status} to {method} {target}: {error_text(reply)}", reply.status)
        return reply.json() if reply.body else {}

    async def make_as_user(
        self,
        method: str,
        service: str,
        what: tuple[str, Any],
        instead: Callable[[visibility.Viewer], tuple[str, Any]],
        *,
        exists: bool = False,
    ) -> Any:
        """Have a service of this site create or change a resource with the user's rights, even if the token's access rules forbid it.

        Args:
            method: POST or PUT.
            service: the service.
            what: the target, and the body, which is sent as JSON.
            instead: returns the target and the body with which the gateway's own account does the same for the user that Keystone confirms.
            exists: see `make`.

        Raises:
            ServiceRefused: the service refuses.
            Unreachable: the service does not answer.
        """
        viewer = await visibility.restricted(self.sites, self.token)
        if viewer is not None:
            return await self.make(method, service, *instead(viewer), exists=exists)
        return await self.make(method, service, *what, token=self.token, exists=exists)

    async def project(self) -> str:
        """Return the id of the user's project.

        Raises:
            BringFailed: the token belongs to no project.
            Unreachable: Keystone does not answer.
        """
        call = self.call("GET", "identity", "/v3/auth/tokens?nocatalog", self.token)
        call.headers["X-Subject-Token"] = self.token
        call.headers["OpenStack-Identity-Access-Rules"] = "1.0"
        reply = await self.sites.send(self.sites.here, call, LOOK_S)
        project = reply.json()["token"].get("project") if reply.ok else None
        if project is None:
            raise BringFailed("the token belongs to no project")
        return str(project["id"])

    async def look(self, site: str, reference: Reference) -> Any:
        """Return a referenced resource as a site shows it to the user; `None` if the site has no usable resource.

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
        """Return whether a site shows a resource to the user; `False` if the site does not answer."""
        return await self._try(site, reference) is not None

    async def owner_at(self, site: str, service: str, path: str) -> str | None:
        """Return the project that owns the resource at a path of a site; empty if the resource names no owner.

        Returns:
            `None` if the site shows the user no such resource, or does not answer.
        """
        try:
            shown = await self.get(site, service, path)
        except Unreachable:
            return None
        if not isinstance(shown, dict):
            return None
        inner = next(iter(shown.values()), None)
        resource = inner if len(shown) == 1 and isinstance(inner, dict) else shown
        return str(resource.get("project_id") or resource.get("owner") or "")

    async def check(self, kind: str, resource: Mapping[str, Any], site: str) -> None:
        """Check the references of a resource that is to be brought: this site must have each referenced resource that can't be brought.

        Args:
            kind: the kind of the resource.
            resource: the resource to be brought, as another site shows it.
            site: the site that shows it, for the message.

        Raises:
            BringRefused: this site lacks a resource to which `resource` refers.
            Unreachable: a service does not answer.
        """
        for mention in named_by(kind, resource):
            if mention.field.action is kinds.Action.REFUSE and await self.look(self.sites.here, mention.reference) is None:
                here, named = self.sites.here, mention.reference
                raise BringRefused(f"{kind} {resource['id']} of {site} can't be brought to {here}, which lacks {named} that it names")

    async def elsewhere(self, reference: Reference) -> list[RemoteResource]:
        """Return the resource at the other sites that have it, nearest first."""
        sites = self.sites.reachable(_SERVICES.get(reference.kind, ""))
        answers = await asyncio.gather(*(self._try(site, reference) for site in sites))
        return [RemoteResource(site, body) for site, body in zip(sites, answers, strict=True) if body is not None]

    async def _try(self, site: str, reference: Reference) -> Any:
        try:
            return await self.look(site, reference)
        except Unreachable as error:
            LOG.info("%s: looking for %s: %s", self.request_id, reference, error)
            return None


VERSION = "2.61"
"""Nova's API microversion: the first in which a flavor shows its extra specs."""


_SERVICES = {name: kind.service for name, kind in KINDS.items()} | {
    kinds.SECURITY_GROUP: "network",
    kinds.FLOATING_IP: "network",
    kinds.HOST: "compute",
}
"""The service of the resources of each kind."""


def _where(reference: Reference) -> tuple[str, str, str]:
    """Return the service, the target and the key of the answer for a reference.

    Raises:
        ValueError: no resource can have this id.
    """
    if reference.kind == kinds.SECURITY_GROUP:
        attribute = "id" if is_uuid(reference.id.lower()) else "name"
        return _SERVICES[reference.kind], f"/v2.0/security-groups?{urlencode({attribute: reference.id})}", "security_groups"
    if reference.kind == kinds.FLOATING_IP:
        return _SERVICES[reference.kind], f"/v2.0/floatingips?{urlencode({'floating_ip_address': reference.id})}", "floatingips"
    if reference.kind == kinds.HOST:
        return _SERVICES[reference.kind], f"/v2.1/os-services?{urlencode({'binary': 'nova-compute', 'host': reference.id})}", "services"
    kind = KINDS.get(reference.kind)
    return (kind.service, f"{kind.path}/{segment(reference.id)}", kind.key) if kind else ("", "", "")

"""Carries out at this site what another site's gateway has accepted, and could not have done here at the time.

The user's token has ended, so this site's own account for the service is used. Before that the gateway makes sure of what the service
would have made sure of: that the requester of then may change this very object. The object must be the one that was meant where the
request was carried out; and it must be the requester's project's own, unless the requester was an administrator. What does not fit is
refused for good.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import orjson
from aiohttp import web

from atoll.gateway.answers import GONE, REPLICA_TAG, words
from atoll.gateway.bring.asking import Failed
from atoll.gateway.bring.images import Images
from atoll.gateway.bring.pull import PullFailed
from atoll.gateway.bring.references import IMAGE
from atoll.gateway.copies import ownership
from atoll.gateway.copies.operation import Operation, resource_of, whose
from atoll.gateway.peer import PEER
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.request.paths import segment
from atoll.gateway.request.requester import Requester
from atoll.gateway.request.target import Refused, parse
from atoll.gateway.resolve.routes import Operation as Kind
from atoll.gateway.resolve.routes import match
from atoll.gateway.sites import Sites
from atoll.identifiers import GATEWAY_SERVICES

LOG = logging.getLogger(__name__)

PATH = "/atoll/operations"

_MOST_BYTES = 4 << 20
_METHODS = frozenset(("POST", "PUT", "PATCH", "DELETE"))
_PARENTS = {"subnets": ("network_id", "networks"), "security-group-rules": ("security_group_id", "security-groups")}
"""Of what may be created later: the field that names what it becomes a part of, and the collection of that."""


@dataclass(frozen=True)
class Outcome:
    """What has become of an operation.

    Attributes:
        status: HTTP status of the service; 409 for what does not fit.
        message: for people.
        refused: True if it does not fit, and is not to be tried again.
        waits: True if it can't be done yet, for a reason that is not this site's.
    """

    status: int
    message: str = ""
    refused: bool = False
    waits: bool = False

    @classmethod
    def load(cls, said: Mapping[str, Any]) -> Outcome:
        """Read an outcome from another site.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        return cls(int(said["status"]), str(said["message"])[:500], bool(said["refused"]), bool(said["waits"]))


class Unfit(Exception):  # noqa: N818 - a finding
    """The operation does not fit the requester or the object."""


class Performer:
    """Carries out operations at this site.

    Args:
        sites: to ask this site's services.
        images: pulls the data of images; None: there are none.
        limited: the sites whose administrators are none here (`trust: local-admin`).
        speaks_for: tells whether a site may hand over operations of a project and a user; by default, each site may.
    """

    def __init__(
        self,
        sites: Sites,
        images: Images | None = None,
        limited: Collection[str] = (),
        speaks_for: Callable[[str, str, str], bool] = lambda _site, _project, _user: True,
    ) -> None:
        self._sites = sites
        self._images = images
        self._limited = frozenset(limited)
        self._speaks_for = speaks_for

    def attach(self, application: web.Application) -> None:
        """Add the handler to the application of the peer port."""
        application.router.add_post(PATH, self._answer)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            operation = Operation.load(await _json(request))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise web.HTTPBadRequest(text=f"this is no operation: {error}") from error
        if operation.requester is not None and request[PEER] in self._limited:
            operation = replace(operation, requester=operation.requester.no_admin())
        try:
            outcome = self._out_of_place(operation, request[PEER]) or await self.perform(operation)
        except Unreachable as error:
            outcome = Outcome(503, error.why, waits=True)
        if outcome.refused:
            LOG.error("%s, asked for by %s, is refused: %s", operation, request[PEER], outcome.message)
        return web.json_response(asdict(outcome))

    def _out_of_place(self, operation: Operation, peer: str) -> Outcome | None:
        """The refusal of an operation that another site may not hand over."""
        asked = operation.requester
        if asked is None or self._speaks_for(peer, asked.project, asked.user):
            return None
        message = f"project {asked.project} and user {asked.user} are not homed at {peer}, which is trusted no further (trust: local-admin)"
        return Outcome(409, message, refused=True)

    async def perform(self, operation: Operation) -> Outcome:
        """Carry an operation out.

        Raises:
            Unreachable: a service of this site does not answer.
        """
        try:
            requester = _checked(operation)
            if operation.copies_data:
                return await self._copy_data(operation, requester)
            if operation.tag:
                return await self._delete_tagged(operation, requester)
            await self._check(operation, requester)
            if operation.about and await self._is_there(operation):
                return Outcome(200)  # an earlier try has made it
            return _outcome(await self._send(operation))
        except Unfit as error:
            return Outcome(409, str(error), refused=True)
        except _Not as error:
            return _outcome(error.reply)

    async def _check(self, operation: Operation, requester: Requester) -> None:
        """Make sure that the requester may change the object.

        Raises:
            Unfit: the requester may not; or it is another object than was meant.
            _Not: the object is not here.
        """
        route = match(operation.method, operation.service, operation.path)
        if not ownership.collection_of(operation.service, operation.path) and route.operation is not Kind.CREATE:
            if not requester.is_admin:
                raise Unfit("only an administrator may change such a setting")
        elif route.operation is Kind.CREATE:
            await self._check_parent(operation, requester)
        else:
            await self._check_object(operation, requester)

    async def _check_object(self, operation: Operation, requester: Requester) -> dict[str, str]:
        found, body = await self._look(operation.service, resource_of(operation.path), whose(operation.query))
        if different := ownership.differences(operation.identity, found):
            raise Unfit(f"another object has this id at {self._sites.here}: it differs in {', '.join(different)}")
        if not requester.is_admin and not _owns(requester, found) and not _own_membership(operation, requester):
            raise Unfit(f"the object at {self._sites.here} is not of project {requester.project}, whose user {requester.user} asked")
        self._check_unchanged(operation, body)
        return found

    def _check_unchanged(self, operation: Operation, body: Any) -> None:
        """Make sure that what the change replaces is what it was meant to replace, or has been replaced already."""
        thing = next(iter(body.values()), None) if isinstance(body, dict) and len(body) == 1 else body
        wanted = next(iter((_body(operation) or {}).values()), None)
        if not operation.before or not isinstance(thing, dict) or not isinstance(wanted, dict):
            return
        if changed := sorted(name for name, value in operation.before.items() if thing.get(name) not in (value, wanted.get(name))):
            raise Unfit(f"it was to be changed on a condition, and was changed at {self._sites.here} in another way: {', '.join(changed)}")

    async def _check_parent(self, operation: Operation, requester: Requester) -> None:
        """Make sure that the requester may create a part of something: a subnet, or a rule of a security group."""
        name, collection = _PARENTS.get(operation.path.rpartition("/")[2], ("", ""))
        item = next(iter((_body(operation) or {}).values()), None)
        item = item if isinstance(item, dict) else {}
        parent = item.get(name) if name else None
        if not isinstance(parent, str):
            raise Unfit("such a thing is not created later")
        try:
            path = f"/v2.0/{collection}/{segment(parent)}"
        except ValueError as error:
            raise Unfit(str(error)) from error
        owner = (await self._look("network", path))[0].get("owner")
        if not requester.is_admin and owner != requester.project:
            raise Unfit(f"what it would be a part of at {self._sites.here} is not of project {requester.project}")
        if not requester.is_admin and item.get("project_id", requester.project) != requester.project:
            raise Unfit(f"it would not be of project {requester.project}")

    async def _look(self, service: str, path: str, query: str = "") -> tuple[dict[str, str], Any]:
        """The identity of an object of this site, and what the service says of it.

        Raises:
            _Not: it can't be seen.
        """
        call = Call("GET", service, path, query, Operation("", "GET", service, path).call("").headers, None, "")
        reply = await self._own(call)
        if not reply.ok:
            raise _Not(reply)
        return ownership.read(call, reply), reply.json()

    async def _is_there(self, operation: Operation) -> bool:
        """Whether what is to be created under a known id is there, for the same project."""
        try:
            found, _body = await self._look(operation.service, operation.about)
        except _Not:
            return False
        return operation.requester is not None and found.get("owner") == operation.requester.project

    async def _send(self, operation: Operation) -> Reply:
        return await self._own(operation.call(""))

    async def _own(self, call: Call) -> Reply:
        """Ask a service of this site with the gateway's own account."""
        own = call.with_()
        own.headers["X-Auth-Token"] = await self._sites.own_token(call.service)
        return await self._sites.send(self._sites.here, own)

    async def _delete_tagged(self, operation: Operation, requester: Requester) -> Outcome:
        """Delete servers whose ids are not known, by their tag."""
        reply = await self._own(operation.call("").with_(method="GET", path=f"{operation.path}/detail"))
        if not reply.ok:
            return _outcome(reply)
        tagged = [server for server in reply.json()["servers"] if server["metadata"].get(REPLICA_TAG) == operation.tag]
        ours = [server for server in tagged if requester.is_admin or server.get("tenant_id") == requester.project]
        for server in ours:
            path = f"{operation.path}/{segment(server['id'])}"
            deleted = await self._own(operation.call("").with_(path=path, query=""))
            if not deleted.ok and deleted.status not in GONE:
                return _outcome(deleted)
        return Outcome(204 if ours else 404)

    async def _copy_data(self, operation: Operation, requester: Requester) -> Outcome:
        """Pull an image's data from the sites that hold the same image."""
        found = await self._check_object(operation, requester)
        image_id = resource_of(operation.path).rpartition("/")[2]
        if self._images is None or operation.service != "image":
            raise Unfit("only images have data")
        here, elsewhere = await self._agreed(image_id)
        if here is None or here["status"] not in {"queued", "importing"}:
            return Outcome(204)
        holders = {site: body for site, body in elsewhere.items() if body.get("owner") == found.get("owner")}
        try:
            await self._images.pull(image_id, holders)
        except (PullFailed, Failed, OSError) as error:
            return Outcome(503, str(error), waits=True)
        return Outcome(204)

    async def _agreed(self, image_id: str) -> tuple[Mapping[str, Any] | None, dict[str, Mapping[str, Any]]]:
        assert self._images is not None
        try:
            here, elsewhere = await self._images.holders.agreed(IMAGE, image_id)
        except Failed as error:
            raise Unfit(str(error)) from error
        return here.body if here else None, {each.site: each.body for each in elsewhere}


class _Not(Exception):  # noqa: N818
    """The service does not show the object."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


async def _json(request: web.Request) -> Any:
    body = bytearray()
    async for piece in request.content.iter_any():
        body += piece
        if len(body) > _MOST_BYTES:
            raise web.HTTPRequestEntityTooLarge(max_size=_MOST_BYTES, actual_size=len(body))
    return orjson.loads(bytes(body))


def _checked(operation: Operation) -> Requester:
    """Make sure that an operation has the form of one.

    Raises:
        Unfit: it has not.
    """
    if operation.requester is None:
        raise Unfit("nobody knows who asked for it")
    if operation.service not in GATEWAY_SERVICES or operation.method not in _METHODS:
        raise Unfit("there is no such operation")
    try:
        for path in filter(None, (operation.path, operation.about)):
            parse(f"/{operation.service}{path}" + (f"?{operation.query}" if operation.query else ""))
    except Refused as error:
        raise Unfit(error.message) from error
    if operation.about and operation.method != "POST":
        raise Unfit("only what is created has a path of its own")
    if operation.path.endswith("/action") and "createImage" in (_body(operation) or {}):
        raise Unfit("a snapshot that is taken later would not be the user's")
    return operation.requester


def _owns(requester: Requester, found: Mapping[str, str]) -> bool:
    if "user" in found:
        return found["user"] == requester.user
    return bool(requester.project) and found.get("owner") == requester.project


def _own_membership(operation: Operation, requester: Requester) -> bool:
    """Whether a project accepts or rejects an image that another one shares with it."""
    return (
        operation.service == "image"
        and operation.method == "PUT"
        and bool(requester.project)
        and re.fullmatch(rf"/v2/images/[^/]+/members/{re.escape(requester.project)}", operation.path) is not None
    )


def _body(operation: Operation) -> dict[str, Any] | None:
    try:
        body = operation.call("").json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _outcome(reply: Reply) -> Outcome:
    return Outcome(reply.status, "" if reply.ok else words(reply))

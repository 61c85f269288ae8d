"""Carry out an operation that another site's gateway accepted while this site could not be reached.

The user's token may have expired, so this site's own account for the service is used. Before that, the gateway makes the service's checks
itself: whether the requester may change this very object. The object must have the identity that was recorded where the request was carried
out, and it must belong to the requester's project unless the requester was an administrator. An operation that fails a check is refused for
good.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import orjson
from aiohttp import web

from atoll.gateway.answers import GONE, REPLICA_TAG, error_text
from atoll.gateway.bring.images import ImageTransfers
from atoll.gateway.bring.pull import PullFailed
from atoll.gateway.bring.references import IMAGE
from atoll.gateway.bring.service_client import BringFailed
from atoll.gateway.copies import ownership
from atoll.gateway.copies.pending_operation import PendingOperation, resource_of, whose
from atoll.gateway.peer import PEER, peer_body
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
"""Greatest size, in bytes, of an operation that another gateway hands over."""

_METHODS = frozenset(("POST", "PUT", "PATCH", "DELETE"))
_PARENTS = {"subnets": ("network_id", "networks"), "security-group-rules": ("security_group_id", "security-groups")}
"""The field that names the parent, and the parent's collection, for each type that may be created later."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of an operation.

    Attributes:
        status: the service's HTTP status; 409 if the operation fails a check.
        message: the service's message, as text.
        refused: `True` if the operation failed a check, and is not to be tried again.
        waits: `True` if it can't be carried out yet, for a reason outside this site.
    """

    status: int
    message: str = ""
    refused: bool = False
    waits: bool = False

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Outcome:
        """Return the outcome that another site has sent.

        Raises:
            KeyError, TypeError, ValueError: the data is invalid.
        """
        return cls(int(data["status"]), str(data["message"])[:500], bool(data["refused"]), bool(data["waits"]))


class OperationRefused(Exception):
    """The requester may not carry out an operation, or its object is not the recorded one."""


class Performer:
    """The operations that this site carries out.

    Args:
        sites: sends requests to this site's services.
        images: pulls the data of images; `None` if there are none.
        limited: the sites whose administrators are not administrators here (`trust: local-admin`).
        speaks_for: returns whether a site may hand over operations of a project and a user; by default, each site may.
    """

    def __init__(
        self,
        sites: Sites,
        images: ImageTransfers | None = None,
        limited: Collection[str] = (),
        speaks_for: Callable[[str, str, str], bool] = lambda _site, _project, _user: True,
    ) -> None:
        self._sites = sites
        self._images = images
        self._limited = frozenset(limited)
        self._speaks_for = speaks_for

    def attach(self, application: web.Application) -> None:
        """Add the handler of other gateways' requests to the application of the peer port."""
        application.router.add_post(PATH, self._answer)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            operation = PendingOperation.load(orjson.loads(await peer_body(request, _MOST_BYTES)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise web.HTTPBadRequest(text=f"expected an operation: {error}") from error
        if operation.requester is not None and request[PEER] in self._limited:
            operation = replace(operation, requester=operation.requester.without_admin())
        try:
            outcome = self._out_of_place(operation, request[PEER]) or await self.perform(operation)
        except Unreachable as error:
            outcome = Outcome(503, error.why, waits=True)
        if outcome.refused:
            LOG.error("%s, asked for by %s, is refused: %s", operation, request[PEER], outcome.message)
        return web.json_response(asdict(outcome))

    def _out_of_place(self, operation: PendingOperation, peer: str) -> Outcome | None:
        """Return the refusal of an operation that another site may not hand over; `None` if it may."""
        asked = operation.requester
        if asked is None or self._speaks_for(peer, asked.project, asked.user):
            return None
        message = f"project {asked.project} and user {asked.user} are not homed at {peer}, which is trusted no further (trust: local-admin)"
        return Outcome(409, message, refused=True)

    async def perform(self, operation: PendingOperation) -> Outcome:
        """Carry an operation out, and return its outcome.

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
                return Outcome(200)  # an earlier attempt has created it
            return _outcome(await self._send(operation))
        except OperationRefused as error:
            return Outcome(409, str(error), refused=True)
        except _NotShown as error:
            return _outcome(error.reply)

    async def _check(self, operation: PendingOperation, requester: Requester) -> None:
        """Check that the requester may change the object.

        Raises:
            OperationRefused: the requester may not change the object; or the object does not have the recorded identity.
            _NotShown: the object does not exist here.
        """
        route = match(operation.method, operation.service, operation.path)
        if not ownership.collection_of(operation.service, operation.path) and route.operation is not Kind.CREATE:
            if not requester.is_admin:
                raise OperationRefused("only an administrator may change such a setting")
        elif route.operation is Kind.CREATE:
            await self._check_parent(operation, requester)
        else:
            await self._check_object(operation, requester)

    async def _check_object(self, operation: PendingOperation, requester: Requester) -> dict[str, str]:
        found, body = await self._look(operation.service, resource_of(operation.path), whose(operation.query))
        if different := ownership.differences(operation.identity, found):
            raise OperationRefused(f"another object has this id at {self._sites.here}: it differs in {', '.join(different)}")
        if not requester.is_admin and not _owns(requester, found) and not _own_membership(operation, requester):
            raise OperationRefused(
                f"the object at {self._sites.here} is not of project {requester.project}, whose user {requester.user} asked"
            )
        self._check_unchanged(operation, body)
        return found

    def _check_unchanged(self, operation: PendingOperation, body: Any) -> None:
        """Check that the object still has the values that the change was to replace, or already has the new ones."""
        thing = next(iter(body.values()), None) if isinstance(body, dict) and len(body) == 1 else body
        wanted = next(iter((_body(operation) or {}).values()), None)
        if not operation.before or not isinstance(thing, dict) or not isinstance(wanted, dict):
            return
        if changed := sorted(name for name, value in operation.before.items() if thing.get(name) not in (value, wanted.get(name))):
            raise OperationRefused(
                f"the change was conditional, and the object has been changed otherwise at {self._sites.here}: {', '.join(changed)}"
            )

    async def _check_parent(self, operation: PendingOperation, requester: Requester) -> None:
        """Check that the requester may create a part of a resource: a subnet, or a rule of a security group."""
        name, collection = _PARENTS.get(operation.path.rpartition("/")[2], ("", ""))
        item = next(iter((_body(operation) or {}).values()), None)
        item = item if isinstance(item, dict) else {}
        parent = item.get(name) if name else None
        if not isinstance(parent, str):
            raise OperationRefused("a resource of this type is not created later")
        try:
            path = f"/v2.0/{collection}/{segment(parent)}"
        except ValueError as error:
            raise OperationRefused(str(error)) from error
        owner = (await self._look("network", path))[0].get("owner")
        if not requester.is_admin and owner != requester.project:
            raise OperationRefused(f"its parent at {self._sites.here} does not belong to project {requester.project}")
        if not requester.is_admin and item.get("project_id", requester.project) != requester.project:
            raise OperationRefused(f"it would not belong to project {requester.project}")

    async def _look(self, service: str, path: str, query: str = "") -> tuple[dict[str, str], Any]:
        """Return the identity of an object of this site, and the service's description of it.

        Raises:
            _NotShown: the service does not show it.
        """
        call = Call("GET", service, path, query, PendingOperation("", "GET", service, path).call("").headers, None, "")
        reply = await self._own(call)
        if not reply.ok:
            raise _NotShown(reply)
        return ownership.read(call, reply), reply.json()

    async def _is_there(self, operation: PendingOperation) -> bool:
        """Return whether the resource that is to be created under a known id exists, for the same project."""
        try:
            found, _body = await self._look(operation.service, operation.about)
        except _NotShown:
            return False
        return operation.requester is not None and found.get("owner") == operation.requester.project

    async def _send(self, operation: PendingOperation) -> Reply:
        return await self._own(operation.call(""))

    async def _own(self, call: Call) -> Reply:
        """Send a request to a service of this site with the gateway's own account."""
        own = call.with_()
        own.headers["X-Auth-Token"] = await self._sites.own_token(call.service)
        return await self._sites.send(self._sites.here, own)

    async def _delete_tagged(self, operation: PendingOperation, requester: Requester) -> Outcome:
        """Delete servers of unknown ids by their tag."""
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

    async def _copy_data(self, operation: PendingOperation, requester: Requester) -> Outcome:
        """Pull an image's data from the sites that hold the same image."""
        found = await self._check_object(operation, requester)
        image_id = resource_of(operation.path).rpartition("/")[2]
        if self._images is None or operation.service != "image":
            raise OperationRefused("only images have data")
        here, elsewhere = await self._agreed(image_id)
        if here is None or here["status"] not in {"queued", "importing"}:
            return Outcome(204)
        holders = {site: body for site, body in elsewhere.items() if body.get("owner") == found.get("owner")}
        try:
            await self._images.pull(image_id, holders)
        except (PullFailed, BringFailed, OSError) as error:
            return Outcome(503, str(error), waits=True)
        return Outcome(204)

    async def _agreed(self, image_id: str) -> tuple[Mapping[str, Any] | None, dict[str, Mapping[str, Any]]]:
        assert self._images is not None
        try:
            here, elsewhere = await self._images.holders.agreed(IMAGE, image_id)
        except BringFailed as error:
            raise OperationRefused(str(error)) from error
        return here.body if here else None, {each.site: each.body for each in elsewhere}


class _NotShown(Exception):
    """The service does not show the object."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


def _checked(operation: PendingOperation) -> Requester:
    """Check the form of an operation; return its requester.

    Raises:
        OperationRefused: the form is invalid.
    """
    if operation.requester is None:
        raise OperationRefused("its requester is unknown")
    if operation.service not in GATEWAY_SERVICES or operation.method not in _METHODS:
        raise OperationRefused("no service of a gateway has such an operation")
    try:
        for path in filter(None, (operation.path, operation.about)):
            parse(f"/{operation.service}{path}" + (f"?{operation.query}" if operation.query else ""))
    except Refused as error:
        raise OperationRefused(error.message) from error
    if operation.about and operation.method != "POST":
        raise OperationRefused("only a creation has a path of its own")
    if operation.path.endswith("/action") and "createImage" in (_body(operation) or {}):
        raise OperationRefused("a snapshot can't be taken later: it would belong to the gateway, not to the user")
    return operation.requester


def _owns(requester: Requester, found: Mapping[str, str]) -> bool:
    if "user" in found:
        return found["user"] == requester.user
    return bool(requester.project) and found.get("owner") == requester.project


def _own_membership(operation: PendingOperation, requester: Requester) -> bool:
    """Return whether a project accepts or rejects an image that another project shares with it."""
    return (
        operation.service == "image"
        and operation.method == "PUT"
        and bool(requester.project)
        and re.fullmatch(rf"/v2/images/[^/]+/members/{re.escape(requester.project)}", operation.path) is not None
    )


def _body(operation: PendingOperation) -> dict[str, Any] | None:
    try:
        body = operation.call("").json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _outcome(reply: Reply) -> Outcome:
    return Outcome(reply.status, "" if reply.ok else error_text(reply))

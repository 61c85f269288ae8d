"""ETSI MEC 016, the device application interface, below `/dev_app/v1/`: a program on a device starts its application near the device.

An *application context* is an instance of an application: a server of Nova that was started for one device. Its disk is made at the site,
from an image, or from an overlay and its base. Nothing else is stored. The answer to a new context waits until the server runs, because
the standard has no request by which a device could ask for the address later.

A context with a new location is moved by a hand-off, which the user's own token begins. The answer does not wait for its end: the standard
describes the update as accepted, and its end as an event.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

from multidict import CIMultiDict

from atoll.gateway.edge import device_application_bodies as bodies
from atoll.gateway.edge.applications import ID, Application, Applications
from atoll.gateway.edge.device_application_bodies import MOST_BYTES, WantedApplication, WantedContext
from atoll.gateway.edge.flavors import flavor_of
from atoll.gateway.edge.front import Body, EdgeOperation, Question
from atoll.gateway.edge.instances import APP, AppInstance, instance_of
from atoll.gateway.edge.launcher import Launcher
from atoll.gateway.edge.placement import Placement
from atoll.gateway.edge.problem import Problem, invalid, of_service
from atoll.gateway.edge.user_services import UserServices
from atoll.gateway.options import Options
from atoll.gateway.request.call import Reply, Unreachable, json_reply
from atoll.gateway.request.headers import MISSING
from atoll.gateway.request.paths import is_uuid, segment

ROOT = "/dev_app/v1/"
"""First segments of the API's paths."""

CONTEXT = "atoll_app_context"
"""Key in a server's metadata: the name of the program on the device for which the server was started (`associateDevAppId`)."""

READY_S = 120.0
"""Seconds within which a new instance must run. Otherwise it is deleted, and the request is refused."""

POLL_S = 0.5
"""Seconds between two looks at a new instance."""

MOST_LOCATIONS = 4
"""Greatest number of places in an answer."""

HANDOFF = "X-Atoll-Handoff"
"""Set in the answer to an update that moves an instance: the id of the hand-off, whose state the device can ask for."""

Move = Callable[[Question, str, str], Awaitable[Reply]]
"""A function that has a server handed off to a site for a caller, or continues the hand-off to this site, and returns the state or the
refusal. Without a site, it returns the state of the hand-off that is under way."""

_FILTERS = frozenset(("appname", "appprovider", "appsoftversion", "servicecont", "vendorid"))
_CONTEXT = "([0-9a-f]{12}[1-5][0-9a-f]{3}[89ab][0-9a-f]{15})"
"""The id of a context: the id of its server without hyphens, because the standard allows 32 characters."""


class DeviceApplications:
    """The API of one site's gateway.

    Args:
        options: the gateway's settings.
        services: the services of the cloud.
        placement: chooses the site of an instance.

    Attributes:
        move: see `Move`; the gateway's application sets this function.
    """

    move: Move

    def __init__(self, options: Options, services: UserServices, placement: Placement) -> None:
        self._options = options
        self._services = services
        self._placement = placement
        self._applications = Applications(services)
        self._launcher = Launcher(services)
        filters = _FILTERS - {"servicecont"}
        self.operations = (
            EdgeOperation("GET", _path("app_list"), self._list, f"GET {ROOT}app_list", query=_FILTERS, repeated=filters),
            _post("app_contexts", self._create),
            EdgeOperation("PUT", _path(f"app_contexts/{_CONTEXT}"), self._update, f"PUT {ROOT}app_contexts/ID", Body.REQUIRED, MOST_BYTES),
            EdgeOperation("DELETE", _path(f"app_contexts/{_CONTEXT}"), self._delete, f"DELETE {ROOT}app_contexts/ID"),
            _post("obtain_app_loc_availability", self._locations),
        )

    async def _list(self, question: Question) -> Reply:
        query = question.query
        if query.get("servicecont", "0") not in {"0", "1"}:
            raise invalid("servicecont is unknown: expected 0 or 1")
        found, missing = await self._applications.list(question)
        # No instance follows its device, and no application belongs to a vendor's extension.
        if query.get("servicecont") == "1" or "vendorid" in query:
            found = []
        wanted = {name: set(query[name].split(",")) for name in ("appname", "appprovider", "appsoftversion") if name in query}
        shown = [{"appInfo": bodies.described(application)} for application in found if _passes(application, wanted)]
        reply = json_reply(200, {"ApplicationList": {"appList": shown}}, self._options.site)
        if missing:
            reply.headers[MISSING] = missing
        return reply

    async def _create(self, question: Question) -> Reply:
        wanted = bodies.context_of(question.body)
        if wanted.context_id is not None:
            raise invalid("AppContext.contextId is assigned by the cloud: leave it out")
        named = bodies.site_of(wanted.app_info.user_app_instance_info, self._placement.everywhere())
        application = await self._application(question, wanted.app_info)
        start = named or self._placement.start(question)
        sites = await self._placement.able(question, application, start, 1)
        if not sites or (named and sites != [named]):
            raise Problem(403, f"{named or 'no site near the device'} has no room for the application now, and none is waited for")
        more = {CONTEXT: wanted.associate_dev_app_id}
        identifier = await self._launcher.start(question, application.manifest.name, application, sites[0], more)
        instance = await self._ready(question, identifier)
        context = UUID(identifier).hex
        info = {"appDId": application.id, **bodies.named(application), "userAppInstanceInfo": [_shown(instance, application)]}
        body = {
            "contextId": context,
            "associateDevAppId": wanted.associate_dev_app_id,
            "appAutoInstantiation": wanted.app_auto_instantiation,
            "appInfo": info,
        }
        reply = json_reply(201, {"AppContext": body}, self._options.site)
        reply.headers["Location"] = f"http://{self._options.host}:{self._options.public_port}{ROOT}app_contexts/{segment(context)}"
        return reply

    async def _application(self, question: Question, wanted: WantedApplication) -> Application:
        """Return the application that a request names.

        Raises:
            Problem: the caller sees no such application, or several.
            Unreachable: a site that the request needs does not answer.
        """
        if wanted.app_package_source is not None:
            raise invalid("appPackageSource is not fetched: submit the application first, and name its appDId")
        if wanted.app_d_id is not None:
            if not ID.fullmatch(wanted.app_d_id):
                raise Problem(404, "there is no such application")
            found = [await self._applications.get(question, wanted.app_d_id)]
        else:
            found, _missing = await self._applications.list(question)
        found = [application for application in found if bodies.matches(application, wanted)]
        if not found:
            raise Problem(404, "there is no application with this name, provider and version")
        if len(found) > 1:
            raise invalid("several applications have this name, provider and version: name one by its appDId")
        return found[0]

    async def _ready(self, question: Question, identifier: str) -> AppInstance:
        """Return a new instance once it runs; delete it if it does not, or if the request ends.

        Raises:
            Problem: the instance does not run in time.
            Unreachable: its site stopped answering.
        """
        try:
            return await self._await_ready(question, identifier)
        except BaseException:
            await asyncio.shield(self._drop(question, identifier))
            raise

    async def _await_ready(self, question: Question, identifier: str) -> AppInstance:
        deadline = time.monotonic() + READY_S
        while True:
            server = await self._services.show(question, "compute", f"/v2.1/servers/{segment(identifier)}", "server")
            instance = instance_of(server, question.caller.project) if server is not None else None
            if server is None or instance is None or instance.status in {"failed", "terminating"}:
                raise Problem(503, f"the instance could not be started: {_reason(server)}")
            if instance.status == "ready":
                return instance
            if time.monotonic() > deadline:
                raise Problem(503, f"the instance did not run within {READY_S:.0f} s")
            await asyncio.sleep(POLL_S)

    async def _drop(self, question: Question, identifier: str) -> None:
        try:
            await self._launcher.delete(question, identifier)
        except (Problem, Unreachable):
            return  # the server stays in the list of the project's instances, and its owner can delete it there

    async def _update(self, question: Question) -> Reply:
        server = await self._server(question)
        instance = instance_of(server, question.caller.project)
        assert instance is not None, "`_server` has checked it"
        wanted = bodies.context_of(question.body)
        _check_same(wanted, server, question.names[0])
        site = bodies.site_of(wanted.app_info.user_app_instance_info, self._placement.everywhere())
        reply = self._empty()
        if site and (identifier := await self._moved(question, server, instance, site)):
            reply.headers[HANDOFF] = identifier
        return reply

    async def _moved(self, question: Question, server: dict[str, Any], instance: AppInstance, site: str) -> str:
        """Have an instance handed off to a site; return the id of the hand-off, which is empty if the instance is there already.

        Raises:
            Problem: the site has no room, or the hand-off is refused.
            Unreachable: a site that the request needs does not answer.
        """
        if instance.site != site and not await self._has_room(question, server, site):
            reply = await self.move(question, instance.id, "")
            if not reply.ok or self._services.expect(reply).get("site") != site:  # a hand-off to this site may have taken the room
                raise Problem(403, f"{site} has no room for the application now, and none is waited for")
        reply = await self.move(question, instance.id, site)
        if reply.ok:
            identifier = self._services.expect(reply).get("id", "")
            if not isinstance(identifier, str) or not (identifier == "" or is_uuid(identifier)):
                raise Unreachable(reply.site, "its answer about a hand-off is malformed")
            return identifier
        problem = of_service(reply)
        if reply.status in {400, 409, 501}:
            # The standard has one status for whatever the state of the instance does not allow.
            raise Problem(403, problem.message)
        raise problem

    async def _has_room(self, question: Question, server: dict[str, Any], site: str) -> bool:
        """Return whether a site has the memory of a server's flavor left; `True` if the site can't be asked."""
        held = server.get("flavor")
        target = f"/v2.1/flavors/{segment(str(held.get('id')))}" if isinstance(held, dict) else ""
        shown = await self._services.show(question, "compute", target, "flavor") if target else None
        flavor = flavor_of(shown) if shown is not None else None
        return await self._placement.has_room(site, flavor.memory_mb if flavor is not None else 0)

    async def _delete(self, question: Question) -> Reply:
        await self._launcher.delete(question, str((await self._server(question))["id"]))
        return self._empty()

    async def _server(self, question: Question) -> dict[str, Any]:
        """Return the server of the context that a path names, as Nova shows it.

        Raises:
            Problem: the caller's project has no such context.
            Unreachable: a site that the request needs does not answer.
        """
        identifier = str(UUID(question.names[0]))
        server = await self._services.show(question, "compute", f"/v2.1/servers/{segment(identifier)}", "server")
        if server is None or instance_of(server, question.caller.project) is None or CONTEXT not in server["metadata"]:
            raise Problem(404, "there is no such application context")
        return server

    async def _locations(self, question: Question) -> Reply:
        wanted = bodies.locations_of(question.body)
        application = await self._application(question, wanted.app_info)
        sites = await self._placement.able(question, application, self._placement.start(question), MOST_LOCATIONS)
        places = [{"appLocation": bodies.place(site)} for site in sites]
        info = {**bodies.named(application), "availableLocations": places}
        body = {"associateDevAppId": wanted.associate_dev_app_id, "appInfo": info}
        return json_reply(200, {"ApplicationLocationAvailability": body}, self._options.site)

    def _empty(self) -> Reply:
        return Reply(204, CIMultiDict(), b"", self._options.site)


def _check_same(wanted: WantedContext, server: dict[str, Any], context: str) -> None:
    """Check that an update changes nothing but the location, as the standard says.

    Raises:
        Problem: it does.
    """
    metadata, app = server["metadata"], wanted.app_info.app_d_id
    for name, value, held in (
        ("contextId", wanted.context_id, context),
        ("associateDevAppId", wanted.associate_dev_app_id, metadata[CONTEXT]),
        ("appInfo.appDId", app, metadata[APP]),
    ):
        if value is not None and value != held:
            raise invalid(f"AppContext.{name} is not that of the context, and can't be changed: only appLocation can")


def _path(pattern: str) -> re.Pattern[str]:
    return re.compile(f"{ROOT}{pattern}")


def _post(name: str, answer: Any) -> EdgeOperation:
    return EdgeOperation("POST", _path(name), answer, f"POST {ROOT}{name}", Body.REQUIRED, MOST_BYTES)


def _passes(application: Application, wanted: dict[str, set[str]]) -> bool:
    manifest = application.manifest
    values = {"appname": manifest.name, "appprovider": manifest.app_provider, "appsoftversion": manifest.version}
    return all(values[name] in allowed for name, allowed in wanted.items())


def _shown(instance: AppInstance, application: Application) -> dict[str, Any]:
    """Return a running instance in the standard's form; its address is that of the manifest's first interface that clients reach."""
    shown: dict[str, Any] = {"appInstanceId": instance.id, "appLocation": bodies.place(instance.site)}
    addresses: Sequence[str] = [*instance.ipv4, *(f"[{address}]" for address in instance.ipv6)]
    for interface in application.manifest.interfaces:
        if addresses and interface.interface_id in instance.ports:
            scheme = "udp" if interface.protocol == "UDP" else "tcp"
            shown["referenceURI"] = f"{scheme}://{addresses[0]}:{interface.port}"
            break
    return shown


def _reason(server: dict[str, Any] | None) -> str:
    """Return the reason that Nova gives for a server's failure."""
    fault = (server or {}).get("fault")
    return str(fault.get("message")) if isinstance(fault, dict) else "its server failed or was deleted"

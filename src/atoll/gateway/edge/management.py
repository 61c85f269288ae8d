"""CAMARA Edge Application Management: applications and their instances, below `/edge-application-management/v0.1alpha1/`.

An application is an image with a manifest (`applications`), and an instance a server with metadata (`instances`). The caller's own token
reaches Glance and Nova, so that their rules and quotas decide, and clients of OpenStack see the same objects.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any
from weakref import WeakValueDictionary

from multidict import CIMultiDict

from atoll.gateway.edge.applications import ID, Applications
from atoll.gateway.edge.device import fields_of
from atoll.gateway.edge.front import Body, EdgeOperation, Question
from atoll.gateway.edge.instances import AppInstance, any_of, instance_of, instances
from atoll.gateway.edge.launcher import Launcher, network_of
from atoll.gateway.edge.manifest import MOST_BYTES, parse
from atoll.gateway.edge.problem import Problem, invalid
from atoll.gateway.edge.user_services import UserServices
from atoll.gateway.edge.zone_owner import ZoneOwner
from atoll.gateway.options import Options
from atoll.gateway.request.call import Reply, json_reply
from atoll.gateway.request.headers import MISSING
from atoll.gateway.request.paths import segment
from atoll.gateway.sites import Sites
from atoll.identifiers import edge_zone

ROOT = "/edge-application-management/v0.1alpha1"
"""First segments of the API's paths."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{1,63}")
_STATES = ("active", "inactive", "unknown")

_INSTANCE_FIELDS = ("name", "appId", "edgeCloudZoneId", "kubernetesClusterRef", "subscriptionRequest")


class ApplicationManagement:
    """The API of one site's gateway.

    Args:
        options: the gateway's settings.
        sites: the sites of the cloud.
        services: the services of the cloud.
    """

    def __init__(self, options: Options, sites: Sites, services: UserServices) -> None:
        self._options = options
        self._sites = sites
        self._services = services
        self._applications = Applications(services)
        self._launcher = Launcher(services)
        self.owner = ZoneOwner(sites, self._start)
        self._creating: WeakValueDictionary[tuple[str, str, str], asyncio.Lock] = WeakValueDictionary()
        one = f"({ID.pattern})"
        rows: tuple[tuple[Any, ...], ...] = (
            ("POST", "/apps", self._submit, Body.REQUIRED),
            ("GET", "/apps", self._list),
            ("GET", f"/apps/{one}", self._show),
            ("DELETE", f"/apps/{one}", self._delete),
            ("POST", "/appinstances", self._instantiate, Body.REQUIRED),
            ("GET", "/appinstances", self._instances, Body.NONE, ("appId", "appInstanceId", "region")),
            ("DELETE", f"/appinstances/{one}", self._terminate),
            ("POST", "/deployments", self._deploy, Body.REQUIRED),
            ("GET", "/deployments", self._none, Body.NONE, ("appId", "appDeploymentId")),
            ("GET", "/clusters", self._none, Body.NONE, ("region", "clusterRef", "edgeCloudZoneId")),
            ("GET", "/edge-cloud-zones", self._zones, Body.NONE, ("region", "status")),
        )
        self.operations = tuple(_operation(*row) for row in rows)

    # Applications

    async def _submit(self, question: Question) -> Reply:
        application = await self._applications.submit(question, parse(question.body))
        return json_reply(201, {"appId": application.id}, self._options.site)

    async def _list(self, question: Question) -> Reply:
        found, missing = await self._applications.list(question)
        return self._complete([application.data() for application in found], missing)

    async def _show(self, question: Question) -> Reply:
        application = await self._applications.get(question, question.names[0])
        return json_reply(200, {"appManifest": application.data()}, self._options.site)

    async def _delete(self, question: Question) -> Reply:
        application = await self._applications.get(question, question.names[0])
        if running := await any_of(self._services, question, application.id):
            raise Problem(409, f"the application has instances ({running}, …): delete them first")
        await self._applications.withdraw(question, application)
        return self._empty(204)

    # Instances

    async def _instantiate(self, question: Question) -> Reply:
        _name, _app, zone = _instance_fields(question.body)
        network_of(question)
        site = self._site_of(zone)
        if site == self._options.site or (reply := await self.owner.ask(question, site)) is None:
            return await self._create(question, site)
        self._set_location(reply, reply.json()["appInstanceId"])
        return reply

    async def _start(self, question: Question) -> Reply:
        """Start an instance in the zone of this site, for a client of another gateway.

        Raises:
            Problem: the request is refused.
            Unreachable: a site that is needed does not answer.
        """
        if (site := self._site_of(_instance_fields(question.body)[2])) != self._options.site:
            raise Problem(404, f"the zone of site {site} is not that of {self._options.site}")
        return await self._create(question, site)

    def _site_of(self, zone: str) -> str:
        for site in self._sites.everywhere():
            if edge_zone(self._options.cloud, site) == zone:
                return site
        raise Problem(404, "there is no such edge cloud zone")

    async def _create(self, question: Question, site: str) -> Reply:
        name, app, zone = _instance_fields(question.body)
        application = await self._applications.get(question, app)
        key = question.caller.project, app, site
        lock = self._creating.setdefault(key, asyncio.Lock())
        async with lock:
            await self._check_free(question, app, site)
            identifier = await self._launcher.start(question, name, application, site, {})
        body = {
            "name": name,
            "appId": app,
            "appInstanceId": identifier,
            "appProvider": application.manifest.app_provider,
            "status": "instantiating",
            "edgeCloudZoneId": zone,
        }
        reply = json_reply(202, body, self._options.site)
        self._set_location(reply, identifier)
        return reply

    def _set_location(self, reply: Reply, identifier: str) -> None:
        """Set the header `Location` to the URL of the new instance at this gateway."""
        base = f"http://{self._options.host}:{self._options.public_port}"
        reply.headers["Location"] = f"{base}{ROOT}/appinstances?appInstanceId={segment(identifier)}"

    async def _check_free(self, question: Question, app: str, site: str) -> None:
        """Check that the project has no instance of an application at a site.

        Raises:
            Problem: it has.
        """
        found, _missing = await instances(self._services, question)
        if any(instance.app == app and instance.site == site and instance.status != "terminating" for instance in found):
            raise Problem(409, f"the application has an instance in the zone {site} already", "ALREADY_EXISTS")

    async def _instances(self, question: Question) -> Reply:
        wanted = {name: question.query[name] for name in ("appId", "appInstanceId") if name in question.query}
        for name, value in wanted.items():
            if not ID.fullmatch(value):
                raise invalid(f"{name} is no UUID of version 1 to 5")
        found, missing = await instances(self._services, question)
        if question.query.get("region", self._options.region) != self._options.region:
            found = []
        shown = [self._shown(instance) for instance in found]
        return self._complete([each for each in shown if all(each[name] == value for name, value in wanted.items())], missing)

    def _shown(self, instance: AppInstance) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "name": instance.name,
            "appId": instance.app,
            "appInstanceId": instance.id,
            "appProvider": instance.provider,
            "status": instance.status,
            "edgeCloudZoneId": edge_zone(self._options.cloud, instance.site),
        }
        if points := list(instance.access_points()):
            shown["componentEndpointInfo"] = [{"interfaceId": interface, "accessPoints": point} for interface, point in points]
        return shown

    async def _terminate(self, question: Question) -> Reply:
        server = await self._services.show(question, "compute", f"/v2.1/servers/{segment(question.names[0])}", "server")
        if server is None or instance_of(server, question.caller.project) is None:
            raise Problem(404, "there is no such instance of an application")
        await self._launcher.delete(question, question.names[0])
        return self._empty(202)

    # Everything else

    async def _deploy(self, _question: Question) -> Reply:
        raise Problem(501, "deployments are not supported: create an instance in each zone")

    async def _none(self, _question: Question) -> Reply:
        return json_reply(200, [], self._options.site)

    async def _zones(self, question: Question) -> Reply:
        status, region = question.query.get("status", ""), question.query.get("region", self._options.region)
        if status and status not in _STATES:
            raise invalid(f"status is unknown: expected {', '.join(_STATES)}")
        reachable = {self._options.site, *self._sites.reachable()}
        zones = [
            {
                "edgeCloudZoneId": edge_zone(self._options.cloud, site),
                "edgeCloudZoneName": site,
                "edgeCloudZoneStatus": "active" if site in reachable else "unknown",
                "edgeCloudProvider": self._options.cloud,
                "edgeCloudRegion": self._options.region,
            }
            for site in self._sites.near_first(self._sites.everywhere())
        ]
        found = [zone for zone in zones if status in {"", zone["edgeCloudZoneStatus"]} and region == self._options.region]
        if not found:
            raise Problem(400, "no edge cloud zone has this region and status", "OUT_OF_RANGE")
        return json_reply(200, found, self._options.site)

    def _complete(self, items: Sequence[dict[str, Any]], missing: str) -> Reply:
        """Return a list as an answer that names the sites whose items it lacks."""
        reply = json_reply(200, list(items), self._options.site)
        if missing:
            reply.headers[MISSING] = missing
        return reply

    def _empty(self, status: int) -> Reply:
        return Reply(status, CIMultiDict(), b"", self._options.site)


def _operation(method: str, path: str, answer: Any, body: Body = Body.NONE, query: Sequence[str] = ()) -> EdgeOperation:
    show = f"{method} {ROOT}{path.replace(f'({ID.pattern})', 'ID')}"
    return EdgeOperation(method, re.compile(f"{re.escape(ROOT)}{path}"), answer, show, body, MOST_BYTES, frozenset(query))


def _instance_fields(body: bytes) -> tuple[str, str, str]:
    """Return the name, the application and the zone of a new instance.

    Raises:
        Problem: the body is not as the standard says, or asks for what this API lacks.
    """
    fields = fields_of(body, *_INSTANCE_FIELDS)
    name, app, zone = (fields.get(each) for each in _INSTANCE_FIELDS[:3])
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise invalid("name is missing or invalid: expected 2 to 64 letters, digits and _, the first a letter")
    for each, value in (("appId", app), ("edgeCloudZoneId", zone)):
        if not isinstance(value, str) or not ID.fullmatch(value):
            raise invalid(f"{each} is missing, or no UUID of version 1 to 5")
    for each in _INSTANCE_FIELDS[3:]:
        if each in fields:
            raise Problem(501, f"{each} is not supported: leave it out")
    return name, str(app), str(zone)

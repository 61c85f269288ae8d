"""CAMARA Application Endpoint Discovery: where a device reaches the nearest instance of an application.

POST /application-endpoint-discovery/v0.1/retrieve-optimal-app-endpoints
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

from atoll.gateway.edge.device import MOST_BYTES, device_of, fields_of, uuid_of
from atoll.gateway.edge.front import Body, EdgeOperation, Question
from atoll.gateway.edge.instances import NO_PROVIDER, AppInstance, instances
from atoll.gateway.edge.location import Locator
from atoll.gateway.edge.problem import Problem, invalid
from atoll.gateway.edge.user_services import UserServices
from atoll.gateway.edge.zones import Zones
from atoll.gateway.options import Options
from atoll.gateway.request.call import Reply, json_reply
from atoll.gateway.request.headers import MISSING
from atoll.gateway.request.paths import segment
from atoll.identifiers import edge_zone

ROOT = "/application-endpoint-discovery/v0.1/"
"""First segments of the API's paths."""

PATH = f"{ROOT}retrieve-optimal-app-endpoints"
"""The path of the only operation."""

_APP, _REGISTERED = "appId", "applicationEndpointsId"


class EndpointDiscovery:
    """The API of one site's gateway.

    Args:
        options: the gateway's settings.
        zones: the distances between sites.
        locator: finds the site of a device.
        services: the services of the cloud.
    """

    def __init__(self, options: Options, zones: Zones, locator: Locator, services: UserServices) -> None:
        self._options = options
        self._zones = zones
        self._locator = locator
        self._services = services
        self.operations = (EdgeOperation("POST", re.compile(re.escape(PATH)), self._search, f"POST {PATH}", Body.REQUIRED, MOST_BYTES),)

    async def _search(self, question: Question) -> Reply:
        fields = fields_of(question.body, "device", _APP, _REGISTERED)
        app, registered = uuid_of(fields, _APP), uuid_of(fields, _REGISTERED)
        if not app and not registered:
            raise invalid(f"the body names no application: expected {_APP}")
        location = self._locator.locate(question, device_of(fields))
        if registered:
            raise Problem(404, f"no endpoints are registered: expected {_APP} alone, the id of an application of this cloud")
        found, missing = await instances(self._services, question)
        of_app = [instance for instance in found if instance.app == app]
        nearest = self._nearest(location.site, of_app)
        if not nearest:
            await self._explain(question, app, known=bool(of_app))
        body: dict[str, Any] = {"applicationEndpoints": [each for instance in nearest for each in self._endpoints(instance)], _APP: app}
        if (provider := nearest[0].provider) != NO_PROVIDER:
            body["applicationServerProviderName"] = provider
        reply = json_reply(200, body | location.device, self._options.site)
        if missing:
            reply.headers[MISSING] = missing
        return reply

    def _nearest(self, site: str, found: list[AppInstance]) -> list[AppInstance]:
        """Return the instances that clients can reach at the site nearest to the device's; none if there is no such site."""
        ready = [instance for instance in found if instance.status == "ready" and any(instance.access_points())]
        for name in self._zones.by_distance(site, {instance.site for instance in ready}):
            return [instance for instance in ready if instance.site == name]
        return []

    async def _explain(self, question: Question, app: str, *, known: bool) -> NoReturn:
        """Refuse a request for an application without an instance that clients can reach.

        Raises:
            Problem: always.
        """
        if not known and await self._services.show(question, "image", f"/v2/images/{segment(app)}") is None:
            raise Problem(404, "there is no such application")
        raise Problem(422, "no instance of the application can be reached by clients now", "SERVICE_NOT_APPLICABLE")

    def _endpoints(self, instance: AppInstance) -> list[dict[str, Any]]:
        cloud = self._options.cloud
        zone = {
            "edgeCloudZoneId": edge_zone(cloud, instance.site),
            "edgeCloudZoneName": instance.site,
            "edgeCloudZoneStatus": "active",
            "edgeCloudProvider": cloud,
            "edgeCloudRegion": self._options.region,
        }
        return [
            {**point, "edgeCloudZone": zone, "applicationEndpointDescription": interface} for interface, point in instance.access_points()
        ]

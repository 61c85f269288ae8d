"""Constructs the APIs, recognises their paths, and passes each request to the front of its API."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from atoll.gateway.edge.device_applications import ROOT as DEVICE
from atoll.gateway.edge.device_applications import DeviceApplications
from atoll.gateway.edge.discovery import ROOT as SIMPLE
from atoll.gateway.edge.discovery import EdgeDiscovery, Holding
from atoll.gateway.edge.endpoints import EndpointDiscovery
from atoll.gateway.edge.front import Door, EdgeApis
from atoll.gateway.edge.lifecycle.life import ROOT as LIFE_CYCLE
from atoll.gateway.edge.lifecycle.life import LifeCycle
from atoll.gateway.edge.lifecycle.packages import ROOT as PACKAGES
from atoll.gateway.edge.lifecycle.packages import PackageManagement
from atoll.gateway.edge.location import Locator
from atoll.gateway.edge.management import ApplicationManagement
from atoll.gateway.edge.mobility.api import ROOT as MOBILITY
from atoll.gateway.edge.mobility.api import SOCKET, ApplicationMobility
from atoll.gateway.edge.optimal import OptimalDiscovery
from atoll.gateway.edge.placement import Placement
from atoll.gateway.edge.problem import problem_details
from atoll.gateway.edge.user_services import GatewayAnswer, UserServices
from atoll.gateway.edge.zone_owner import ZoneOwner
from atoll.gateway.edge.zones import Zones
from atoll.gateway.options import Options
from atoll.gateway.request.call import Reply
from atoll.gateway.sites import Sites

ETSI = (DEVICE, MOBILITY, PACKAGES, LIFE_CYCLE)
"""First segments of the paths of ETSI's APIs."""

ROOTS = (SIMPLE, "/optimal-edge-discovery/", "/application-endpoint-discovery/", "/edge-application-management/", *ETSI)
"""First segments of the paths of the APIs."""


def concerns(raw_path: str) -> bool:
    """Return whether the target of a request belongs to one of the APIs."""
    return raw_path.startswith(ROOTS)


def upgrades(raw_path: str) -> bool:
    """Return whether the target of a request is a WebSocket of one of the APIs."""
    return SOCKET.fullmatch(raw_path) is not None


@dataclass(frozen=True)
class EdgeFronts:
    """The fronts of all edge APIs of one site's gateway.

    Attributes:
        camara: CAMARA's APIs.
        etsi: ETSI's APIs.
        mobility: the application mobility service, which has a file and open connections.
        life: the life cycle management, which has a file and tasks.
        owner: starts instances in the zone of this site for other gateways.
        device: the device application interface, which hands servers off.
    """

    camara: EdgeApis
    etsi: EdgeApis
    mobility: ApplicationMobility
    life: LifeCycle
    owner: ZoneOwner
    device: DeviceApplications

    def attach(self, application: web.Application) -> None:
        """Add the handlers of the peer port."""
        self.mobility.events.attach(application)
        self.owner.attach(application)

    async def answer(self, request: web.BaseRequest, door: Door) -> Reply | web.StreamResponse:
        """Answer a request, also a wrong one; see `EdgeApis.answer`."""
        front = self.etsi if request.raw_path.startswith(ETSI) else self.camara
        return await front.answer(request, door)

    async def stop(self) -> None:
        """Close the open connections, which may never end, and stop the tasks."""
        await self.mobility.stop()
        await self.life.stop()

    def close(self) -> None:
        """Close the files of all APIs."""
        self.mobility.close()
        self.life.close()


def edge_apis(options: Options, sites: Sites, zones: Zones, answer: GatewayAnswer, holding: Holding | None = None) -> EdgeFronts:
    """Return the APIs of one site's gateway.

    Args:
        options: the gateway's settings.
        sites: sends requests to this site's Keystone.
        zones: chooses sites.
        answer: the gateway's answer to a client's request.
        holding: ranks sites by what they hold of an overlay.
    """
    locator = Locator(options)
    services = UserServices(answer, options.site)
    lists = UserServices(answer, options.site, strict=options.lists == "strict")
    simple = EdgeDiscovery(options, zones, locator, holding)
    optimal = OptimalDiscovery(options, zones, locator, services, holding)
    endpoints = EndpointDiscovery(options, zones, locator, services)
    management = ApplicationManagement(options, sites, lists)
    camara = [each for api in (simple, optimal, endpoints, management) for each in api.operations]
    placement = Placement(sites, zones, locator, services, holding)
    device = DeviceApplications(options, lists, placement)
    mobility = ApplicationMobility(options, sites, zones, lists)
    packages, life = PackageManagement(options, lists), LifeCycle(options, sites, lists)
    etsi = [each for api in (device, mobility, packages, life) for each in api.operations]
    front = EdgeApis(options, sites, etsi, problem_details)
    return EdgeFronts(EdgeApis(options, sites, camara), front, mobility, life, management.owner, device)

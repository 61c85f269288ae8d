"""Constructs the APIs, and recognises their paths."""

from __future__ import annotations

from atoll.gateway.edge.discovery import ROOT as SIMPLE
from atoll.gateway.edge.discovery import EdgeDiscovery, Holding
from atoll.gateway.edge.endpoints import EndpointDiscovery
from atoll.gateway.edge.front import EdgeApis
from atoll.gateway.edge.location import Locator
from atoll.gateway.edge.management import ApplicationManagement
from atoll.gateway.edge.optimal import OptimalDiscovery
from atoll.gateway.edge.user_services import GatewayAnswer, UserServices
from atoll.gateway.edge.zones import Zones
from atoll.gateway.options import Options
from atoll.gateway.sites import Sites

ROOTS = (SIMPLE, "/optimal-edge-discovery/", "/application-endpoint-discovery/", "/edge-application-management/")
"""First segments of the paths of the APIs."""


def concerns(raw_path: str) -> bool:
    """Return whether the target of a request belongs to one of the APIs."""
    return raw_path.startswith(ROOTS)


def edge_apis(options: Options, sites: Sites, zones: Zones, answer: GatewayAnswer, holding: Holding | None = None) -> EdgeApis:
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
    simple = EdgeDiscovery(options, zones, locator, holding)
    optimal = OptimalDiscovery(options, zones, locator, services, holding)
    endpoints = EndpointDiscovery(options, zones, locator, services)
    management = ApplicationManagement(options, sites, UserServices(answer, options.site, strict=options.lists == "strict"))
    return EdgeApis(options, sites, [each for api in (simple, optimal, endpoints, management) for each in api.operations])

"""The OpenStack services of a site: the only package that imports upstream OpenStack."""

from __future__ import annotations

from collections.abc import Mapping

from atoll.services import bus_router, engines
from atoll.services.contract import Service, Settings
from atoll.services.glance import service as glance
from atoll.services.keystone import service as keystone
from atoll.services.neutron import ml2ovs, network_services, ovn
from atoll.services.neutron import service as neutron
from atoll.services.nova import compute_site, libvirtd
from atoll.services.nova import service as nova
from atoll.services.placement import service as placement
from atoll.services.templates import code_key, template_key

SERVICES: tuple[Service, ...] = (keystone.SERVICE, placement.SERVICE, glance.SERVICE, neutron.SERVICE, nova.SERVICE)
"""All services of a full site, each after the services that it needs."""

LIBVIRT = libvirtd.SERVICE
"""The service that runs libvirtd, at sites with real guests."""

DATA_PLANES: Mapping[str, tuple[Service, ...]] = {"ovn": ovn.SERVICES, "ovs": ml2ovs.SERVICES}
"""The services of a network of real packets, by the name of its data plane."""

GUEST_PROGRAMS = {"ovn": (*libvirtd.PROGRAMS, *ovn.PROGRAMS), "ovs": (*libvirtd.PROGRAMS, *ml2ovs.PROGRAMS)}
"""The programs that guests need, by the data plane of their network."""

DATABASE_SERVERS = engines.SERVERS
"""The services that run the server of a site's databases, by the engine."""

COMPUTE = compute_site.SERVICE
"""The service of a compute site."""

MAP_HOST = f"{nova.__name__}:{nova.map_host.__name__}"
"""The entry point of the job that registers a compute site's host at its control site."""

ROUTER = bus_router.SERVICE
"""The service that connects compute sites to the bus of a full site, if that bus is Zenoh."""

TRACING = "atoll.services.tracing:run"
"""The entry point of a service's process if its requests are recorded; its argument `run` names the service's own entry point."""

BASE = "atoll.services.base:preload"
"""The entry point that the services' common fork server calls."""

__all__ = [
    "BASE",
    "COMPUTE",
    "DATABASE_SERVERS",
    "DATA_PLANES",
    "GUEST_PROGRAMS",
    "LIBVIRT",
    "MAP_HOST",
    "ROUTER",
    "SERVICES",
    "TRACING",
    "Service",
    "Settings",
    "code_key",
    "engines",
    "network_services",
    "template_key",
]

"""The OpenStack services of a site: all that touches upstream OpenStack is below here."""

from __future__ import annotations

from collections.abc import Mapping

from atoll.services import glance, keystone, libvirt_daemon, ml2ovs, network_services, neutron, nova, nova_compute, ovn, placement, router
from atoll.services.contract import Service, Settings
from atoll.services.templates import code_key, template_key

SERVICES: tuple[Service, ...] = (keystone.SERVICE, placement.SERVICE, glance.SERVICE, neutron.SERVICE, nova.SERVICE)
"""All services of a full site, each after those it needs."""

LIBVIRT = libvirt_daemon.SERVICE
"""What a site with real guests runs besides."""

DATA_PLANES: Mapping[str, tuple[Service, ...]] = {"ovn": ovn.SERVICES, "ovs": ml2ovs.SERVICES}
"""What a site with a network of real packets runs besides, by the name of that."""

GUEST_PROGRAMS = {"ovn": (*libvirt_daemon.PROGRAMS, *ovn.PROGRAMS), "ovs": (*libvirt_daemon.PROGRAMS, *ml2ovs.PROGRAMS)}
"""What must be installed for guests on it."""

COMPUTE = nova_compute.SERVICE
"""The service of a compute site."""

MAP_HOST = f"{nova.__name__}:{nova.map_host.__name__}"
"""The entry point of the job by which a compute site becomes known to its control site."""

ROUTER = router.SERVICE
"""What a full site with compute sites runs besides, if its bus is Zenoh."""

BASE = "atoll.services.base:preload"
"""The entry point that the fork server common to all services calls."""

__all__ = [
    "BASE",
    "COMPUTE",
    "DATA_PLANES",
    "GUEST_PROGRAMS",
    "LIBVIRT",
    "MAP_HOST",
    "ROUTER",
    "SERVICES",
    "Service",
    "Settings",
    "code_key",
    "network_services",
    "template_key",
]

"""The OpenStack services of a site: all that touches upstream OpenStack is below here."""

from __future__ import annotations

from atoll.services import glance, keystone, neutron, nova, placement
from atoll.services.contract import Service, Settings
from atoll.services.templates import template_key

SERVICES: tuple[Service, ...] = (keystone.SERVICE, placement.SERVICE, glance.SERVICE, neutron.SERVICE, nova.SERVICE)
"""All services of a full site, each after those it needs."""

BASE = "atoll.services.base:preload"
"""The entry point that the fork server common to all services calls."""

__all__ = ["BASE", "SERVICES", "Service", "Settings", "template_key"]

"""The way into a site's message bus for its compute sites: a Zenoh router, which lets in those on the site's list, and nobody else.

A compute site may do on the bus what nova-compute does: serve its own topics, and call the conductor.
"""

from __future__ import annotations

from atoll import pokes
from atoll.bus.access import Client, Limits
from atoll.mesh import compute_sites
from atoll.runtime.child import Child
from atoll.runtime.spec import ROOT
from atoll.services.contract import Service, Settings

SERVES = (("nova", "compute"), ("nova", "compute-alt"))
"""Exchange and topic of what nova-compute listens to (`COMPUTE` of services/nova.py)."""

CALLS = (("nova", "conductor"),)
"""Exchange and topic of what nova-compute calls."""

LOOK_EVERY_S = 5.0
"""Seconds after which the list is read anew though nobody has said that it changed."""


def configuration(_settings: Settings) -> dict[str, str]:
    """Nothing: the settings say it all."""
    return {}


def clients(settings: Settings) -> tuple[Client, ...]:
    """Return the access list as it is now."""
    listed = compute_sites.admitted(compute_sites.load(settings.directory / compute_sites.FILE))
    return tuple(Client(site.common_name, Limits(settings.site, site.realm, site.name, SERVES, CALLS)) for site in listed)


def run(child: Child) -> None:
    """Route until the process is asked to stop; with a new session, and so with new links, whenever the list has changed."""
    from atoll.bus.router import router
    from atoll.bus.zenoh_config import Tls

    settings = Settings.load(child.arguments["directory"])
    ca, certificate, key = (str(settings.tls / name) for name in ("ca.pem", "cert.pem", "key.pem"))
    endpoint = f"tls/{settings.host}:{settings.ports['bus']}"
    poked = pokes.receiver(settings.sockets / pokes.COMPUTES)
    more = True
    while more:
        listed = clients(settings)
        with router([endpoint], socket_dir=settings.sockets, tls=Tls(ca, certificate, key), clients=listed):
            child.ready()
            while more and clients(settings) == listed:
                more = child.wait_for(poked.fileno(), LOOK_EVERY_S)
                pokes.drain(poked)


# It uses nothing of what the services have in common, so it is forked from the root, where little is imported.
SERVICE = Service("bus", __name__, configuration, listens=(), forked_from=ROOT, opens=("bus",))

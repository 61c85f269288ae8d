"""A Zenoh router that connects a site's compute sites to its message bus.

The router admits only the compute sites on the site's list. On the bus, a compute site may only do what nova-compute does: serve its own
topics, and call the conductor.
"""

from __future__ import annotations

from atoll import pokes
from atoll.bus.access import Client, Limits
from atoll.mesh import compute_sites
from atoll.runtime.child import Child
from atoll.runtime.spec import ROOT
from atoll.services.contract import Service, Settings

SERVES = (("nova", "compute"), ("nova", "compute-alt"))
"""Exchanges and topics that nova-compute serves (`COMPUTE` in services/nova/service.py)."""

CALLS = (("nova", "conductor"),)
"""Exchanges and topics that nova-compute calls."""

LOOK_EVERY_S = 5.0
"""Seconds after which the router reads the list of compute sites again, if no poke has announced a change."""


def configuration(_settings: Settings) -> dict[str, str]:
    """Return no files: the router is configured by the settings alone."""
    return {}


def clients(settings: Settings) -> tuple[Client, ...]:
    """Return the access list of the router, by the present list of compute sites."""
    listed = compute_sites.admitted(compute_sites.load(settings.directory / compute_sites.FILE))
    return tuple(Client(site.common_name, Limits(settings.site, site.realm, site.name, SERVES, CALLS)) for site in listed)


def run(child: Child) -> None:
    """Run the router until the process is asked to stop. Whenever the list of compute sites has changed, open a new session."""
    from atoll.bus.router import router
    from atoll.zenoh_link.config import Tls

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


# The router needs none of the services' common imports, so it is forked from the root, which imports little.
SERVICE = Service("bus", __name__, configuration, listens=(), forked_from=ROOT, opens=("bus",))

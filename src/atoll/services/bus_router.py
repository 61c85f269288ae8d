"""A Zenoh router that connects a site's message bus to its compute sites, and to the buses of sites that share its database.

The router admits only the compute sites on the site's list. On the bus, a compute site may only do what nova-compute does: serve its own
topics, and call the conductor. Sites that share a database have one bus: each router connects to those of the sites before it in the list,
and trusts them with the whole bus, as it trusts the processes of its own site.
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
    sharing = tuple(Client(name) for name in settings.sharing if name != settings.site)
    return sharing + tuple(Client(site.common_name, Limits(settings.site, site.realm, site.name, SERVES, CALLS)) for site in listed)


def earlier(settings: Settings) -> list[str]:
    """Return the endpoints of the routers to connect to: those of the sites before this one that share its database."""
    names = list(settings.sharing)
    before = names[: names.index(settings.site)] if names else []
    return [f"tls/{settings.sharing[name]}" for name in before]


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
        with router([endpoint], earlier(settings), socket_dir=settings.sockets, tls=Tls(ca, certificate, key), clients=listed):
            child.ready()
            while more and clients(settings) == listed:
                more = child.wait_for(poked.fileno(), LOOK_EVERY_S)
                pokes.drain(poked)


# The router needs none of the services' common imports, so it is forked from the root, which imports little.
SERVICE = Service("bus", __name__, configuration, listens=(), forked_from=ROOT, opens=("bus",))

"""How a site's gateway is run, and what it is told."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from atoll.files import write_private
from atoll.gateway.options import FILE, Options
from atoll.identifiers import GATEWAY_SERVICES, LOCAL_USERS, gateway_role, local_endpoint, local_user
from atoll.mesh import compute_sites
from atoll.mesh.compute_sites import ComputeSite
from atoll.pokes import COMPUTES, poke
from atoll.services import Service, Settings
from atoll.services.keystone_bootstrap import BESIDES, CATALOGUE, catalogue
from atoll.site.state import State

MEMBERS_FILE = "members.json"
"""Below the site's directory, and not among its configuration: who else there is may change while the gateway runs."""


def configuration(settings: Settings) -> dict[str, str]:
    """Render the gateway's options."""
    return {FILE: options(settings).dump()}


def options(settings: Settings) -> Options:
    """What the gateway of a site is told."""
    return Options(
        cloud=settings.cloud,
        site=settings.site,
        region=settings.region,
        host=settings.host,
        public_port=settings.ports["gateway"],
        peer_port=settings.ports["peer"],
        mesh_port=settings.ports["mesh"],
        services={kind: settings.url(kind) for kind in catalogue(settings)},
        data=settings.data / "gateway",
        sockets=settings.sockets,
        tls=settings.tls,
        members_file=settings.directory / MEMBERS_FILE,
        identity_database=settings.data / "keystone.db",
        token_keys=settings.data / "keys" / "public",
        local_users=tuple(local_user(settings.site, name) for name in (*LOCAL_USERS, *map(gateway_role, GATEWAY_SERVICES))),
        # Those that the site has no more, too: that they go concerns no other site either.
        local_endpoints=tuple(
            local_endpoint(settings.site, kind, each) for kind in (*CATALOGUE, *BESIDES) for each in ("public", "internal", "admin")
        ),
        password=settings.secrets["gateway"],
        authority=State(settings.directory.parent.parent).authority,
        trust=settings.trust,
        homed=settings.homed,
        lists=settings.lists,
        durable=settings.durable,
    )


def introduce(sites: Sequence[Settings], gone: Collection[str] = ()) -> None:
    """Tell each full site of the others: what a site was made together with, it need not be invited by.

    Args:
        sites: all of one state directory; their certificates are there.
        gone: the names of those that were there.
    """
    full = [settings for settings in sites if not settings.control]
    cards = {settings.site: card(settings) for settings in full}
    for settings in full:
        path = settings.directory / MEMBERS_FILE
        known = {each["name"]: each for each in json.loads(path.read_text(encoding="utf-8"))} if path.exists() else {}
        known = {name: each for name, each in known.items() if name not in gone}
        # Those of other state directories stay: it was their own `join` that brought them.
        write_private(path, json.dumps(list((known | cards).values()), indent=2) + "\n")
        _admit(settings, [each for each in sites if each.control == settings.site], gone)


def _admit(control: Settings, computes: Sequence[Settings], gone: Collection[str]) -> None:
    """Let compute sites into their control site, and those that are gone no more."""
    path = control.directory / compute_sites.FILE
    known = {site.name: site for site in compute_sites.load(path) if site.name not in gone}
    for each in computes:
        known[each.site] = ComputeSite.of(each.site, (each.tls / "cert.pem").read_text(encoding="ascii"), each.realm)
    if tuple(known.values()) != compute_sites.load(path):
        compute_sites.save(path, known.values())
        poke(control.sockets / COMPUTES)


def card(settings: Settings) -> dict[str, object]:
    """What others must know of a site to find it, and to know it again."""
    return {
        "name": settings.site,
        "host": settings.host,
        "public_port": settings.ports["gateway"],
        "peer_port": settings.ports["peer"],
        "mesh_port": settings.ports["mesh"],
        "certificate": (settings.tls / "cert.pem").read_text(encoding="ascii"),
    }


GATEWAY = Service(
    "gateway",
    "atoll.gateway.process",
    configuration,
    listens=("gateway", "peer"),
    needs=("keystone",),
    opens=("mesh",),
    upstream=False,
)

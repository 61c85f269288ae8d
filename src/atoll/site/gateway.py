"""The gateway as a service of a site: its options, and its introduction to the other sites."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from atoll.files import write_private
from atoll.gateway.options import ANNOUNCER_FILE, FILE, Options
from atoll.identifiers import GATEWAY_SERVICES, LOCAL_USERS, gateway_role, local_user
from atoll.mesh import compute_sites
from atoll.mesh.compute_sites import ComputeSite
from atoll.pokes import COMPUTES, poke
from atoll.services import Service, Settings
from atoll.services.keystone.bootstrap import catalogue, endpoints_of
from atoll.site.state import State

MEMBERS_FILE = "members.json"
"""The file of member cards, below the site's directory. It is not a configuration file, because members change while the gateway runs."""


def configuration(settings: Settings) -> dict[str, str]:
    """Render the gateway's options."""
    return {FILE: options(settings).dump()}


def announced(settings: Settings) -> dict[str, str]:
    """Render the options of the process that announces the gateway on a local network."""
    fields = {
        "cloud": settings.cloud,
        "site": settings.site,
        "host": settings.host,
        "peer_port": settings.ports["peer"],
        "network": settings.announce,
        "certificate": str(settings.tls / "cert.pem"),
    }
    return {ANNOUNCER_FILE: json.dumps(fields, indent=2) + "\n"}


def options(settings: Settings) -> Options:
    """Return the options of a site's gateway."""
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
        identity_database=settings.database("keystone"),
        token_keys=settings.data / "keys" / "public",
        local_users=tuple(local_user(settings.owner.site, name) for name in (*LOCAL_USERS, *map(gateway_role, GATEWAY_SERVICES))),
        # Includes accounts of services that the site no longer has: their removal, too, must not be replicated.
        local_endpoints=tuple(endpoint for site in settings.sharing or (settings.site,) for endpoint in endpoints_of(site)),
        password=settings.secrets["gateway"],
        authority=State(settings.directory.parent.parent).authority,
        trust=settings.trust,
        homed=settings.homed,
        lists=settings.lists,
        discovery=settings.discovery,
        announce=settings.announce,
        groups=settings.groups,
        durable=settings.durable,
        trace=settings.trace,
    )


def introduce(sites: Sequence[Settings], gone: Collection[str] = ()) -> None:
    """Write the member cards of all full sites for each of them: sites of one state directory need no invitation.

    Args:
        sites: all sites of a state directory, which have certificates.
        gone: names of sites that were removed, whose cards are deleted.
    """
    full = [settings for settings in sites if not settings.control]
    cards = {settings.site: card(settings) for settings in full}
    for settings in full:
        path = settings.directory / MEMBERS_FILE
        known = {each["name"]: each for each in json.loads(path.read_text(encoding="utf-8"))} if path.exists() else {}
        known = {name: each for name, each in known.items() if name not in gone}
        # Cards of sites of other state directories, which have joined, stay.
        write_private(path, json.dumps(list((known | cards).values()), indent=2) + "\n")
        _admit(settings, [each for each in sites if each.control == settings.site], gone)


def _admit(control: Settings, computes: Sequence[Settings], gone: Collection[str]) -> None:
    """Admit compute sites to their control site, and revoke the access of removed ones."""
    path = control.directory / compute_sites.FILE
    known = {site.name: site for site in compute_sites.load(path) if site.name not in gone}
    for each in computes:
        known[each.site] = ComputeSite.of(each.site, (each.tls / "cert.pem").read_text(encoding="ascii"), each.realm)
    if tuple(known.values()) != compute_sites.load(path):
        compute_sites.save(path, known.values())
        poke(control.sockets / COMPUTES)


def card(settings: Settings) -> dict[str, object]:
    """Return the member card of a site: its address, ports and certificate."""
    return {
        "name": settings.site,
        "host": settings.host,
        "public_port": settings.ports["gateway"],
        "peer_port": settings.ports["peer"],
        "mesh_port": settings.ports["mesh"],
        "certificate": (settings.tls / "cert.pem").read_text(encoding="ascii"),
    }


ANNOUNCER = Service(
    "announcer",
    "atoll.gateway.announcer",
    announced,
    listens=(),
    needs=("gateway",),
    forked_from="gateway",
    upstream=False,
)
"""Announces the gateway on a local network, in a process of its own: strangers there can send it whatever they like."""

GATEWAY = Service(
    "gateway",
    "atoll.gateway.process",
    configuration,
    listens=("gateway", "peer"),
    needs=("keystone",),
    opens=("mesh",),
    upstream=False,
)

"""A site that joins a cloud which was made elsewhere, with a token of one of its members."""

from __future__ import annotations

import json
from pathlib import Path

from atoll.cloud import Cloud, Site
from atoll.errors import AtollError
from atoll.files import make_directory, write_private
from atoll.mesh.admission import Joined, Token
from atoll.mesh.admission import join as redeem
from atoll.site.gateway import MEMBERS_FILE
from atoll.site.lifecycle import Observer, Outcome, bring_up
from atoll.site.sites import applied_cloud
from atoll.site.state import State, locked, translated


def join(  # noqa: PLR0913, PLR0917 - what a site is made of
    state: State, cache_directory: Path, text: str, host: str, port: int | None, admin_password: str | None, observe: Observer
) -> Outcome:
    """Make a site of the cloud that a token is of, and bring it up.

    Args:
        state: where it is to be kept; nothing may be there yet.
        cache_directory: where templates are kept.
        text: the token.
        host: the address at which the other sites find this one.
        port: base port; None for the default.
        admin_password: of the cloud's user admin, so that this machine's `clouds.yaml` works; None if it isn't known here.
        observe: told what happens meanwhile.

    Raises:
        AtollError: `cloud.invalid`, `join.*`, `state.*`: nothing was changed; and as for `bring_up`.
    """
    token = Token.parse(text)
    state.check()
    if applied_cloud(state) is not None:
        message = f"there is a cloud in {state.root} already: a site joins with a state directory of its own"
        raise AtollError("cloud.invalid", message, "use another directory with --state DIR")
    site = _cloud("joining", token.name, host, port).sites[0]
    ports = {"public_port": site.ports["gateway"], "peer_port": site.ports["peer"], "mesh_port": site.ports["mesh"]}
    with locked(state, "site join"), translated(state.root):
        joined = redeem(token, site.host, ports, token_key="")
        _settle(state, site, joined, admin_password)
    return bring_up(state, cache_directory, lambda: _cloud(joined.cloud, site.name, host, port), observe, command="site join")


def _cloud(name: str, site: str, host: str, port: int | None) -> Cloud:
    return Cloud.model_validate({"name": name, "sites": [{"name": site, "host": host} | ({} if port is None else {"port": port})]})


def _settle(state: State, site: Site, joined: Joined, admin_password: str | None) -> None:
    """Write down what the site was given; `up` makes the rest."""
    state.stamp()
    make_directory(state.authority)
    write_private(state.authority / "ca.pem", joined.authority)
    directory = state.site(site.name)
    make_directory(directory)
    make_directory(directory / "tls")
    for name, text in (("ca.pem", joined.authority), ("key.pem", joined.key), ("cert.pem", joined.certificate)):
        write_private(directory / "tls" / name, text)
    write_private(directory / MEMBERS_FILE, json.dumps([card.dump() for card in joined.members], indent=2) + "\n")
    if admin_password is not None:
        write_private(directory / "settings.json", json.dumps({"secrets": {"admin": admin_password}}))

"""A site that joins a cloud of another machine with the token of a member.

The command may die at any moment, and the answer may be lost after the member has admitted the site. So the state directory holds a note
(`State.joining_file`) from before the request is sent until the site is up, with these fields:

    id, host, port      the token's id, and the address of the site
    application         the request and the site's key, until the answer is written
    cloud               the cloud's name, once the answer is written

If the command is run again, it repeats the same request, which the member answers again; if the answer was noted, the command continues
from there. Meanwhile all other commands that would create a site in this directory fail; `atoll destroy` abandons the attempt.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from atoll.cloud import Cloud, Site
from atoll.errors import AtollError
from atoll.files import make_directory, write_private
from atoll.mesh.admission import Application, Joined, Token
from atoll.mesh.admission import join as redeem
from atoll.site.destroy import delete_all
from atoll.site.gateway import MEMBERS_FILE
from atoll.site.preflight import check_startable
from atoll.site.processes import Observer
from atoll.site.sites import applied_cloud
from atoll.site.state import State, locked, translated
from atoll.site.up import Outcome, bring_up


def join(  # noqa: PLR0913, PLR0917 - each argument is a part of the site
    state: State, cache_directory: Path, text: str, host: str, port: int | None, admin_password: str | None, observe: Observer
) -> Outcome:
    """Create a site in the cloud that a token names, and start it, or finish a join that an earlier call began; return the outcome.

    Args:
        state: the state directory for the site, without a cloud.
        cache_directory: the user's cache directory, for templates.
        text: the token.
        host: address at which the other sites reach this one.
        port: base port; `None` means the default.
        admin_password: password of the cloud's user admin, for this machine's `clouds.yaml`; `None` if it is unknown.
        observe: called with the events of processes.

    Raises:
        AtollError: `cloud.invalid`, `join.*`, `state.*`, with nothing changed; `join.unanswered`: the site may be a member; and as for
            `bring_up`.
    """
    token = Token.parse(text)
    state.check()
    site = _cloud("joining", token.name, host, port).sites[0]
    note = _note(state, token, site)
    with locked(state, "site join"), translated(state.root):
        note = _note(state, token, site)
        if "cloud" not in note:
            check_startable(state, cache_directory, _cloud("joining", token.name, host, port))
            joined = _redeemed(state, token, site, note)
            _settle(state, site, joined, admin_password)
            note = {"id": token.id, "host": site.host, "port": site.port, "cloud": joined.cloud}
            _write_note(state, note)

    def wanted() -> Cloud:
        return applied_cloud(state) or _cloud(note["cloud"], site.name, host, port)

    return bring_up(state, cache_directory, wanted, observe, command="site join")


def _cloud(name: str, site: str, host: str, port: int | None) -> Cloud:
    return Cloud.model_validate({"name": name, "sites": [{"name": site, "host": host} | ({} if port is None else {"port": port})]})


def _note(state: State, token: Token, site: Site) -> dict[str, Any]:
    """Return the note of an earlier attempt with this token; empty if there was none.

    Raises:
        AtollError: `cloud.invalid`: the directory has a cloud already, or the earlier attempt was for another address.
    """
    try:
        note: dict[str, Any] = json.loads(state.joining_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        note = {}
    except ValueError:
        raise AtollError("state.unusable", f"{state.joining_file} is damaged", "`atoll destroy`, and join with a new token") from None
    if not note and applied_cloud(state) is not None:
        message = f"there is a cloud in {state.root} already: a site joins with a state directory of its own"
        raise AtollError("cloud.invalid", message, "use another directory with --state DIR")
    if not note:
        return {}
    abandon = "or `atoll destroy`, and join with a new token for another name"
    if note["id"] != token.id:
        message = f"in {state.root} a site has begun to join with another token: expected the same"
        raise AtollError("cloud.invalid", message, abandon)
    if (note["host"], note["port"]) != (site.host, site.port):
        message = f"{site.name} has begun to join with --host {note['host']} --port {note['port']}: expected the same"
        raise AtollError("cloud.invalid", message, abandon)
    return note


def _write_note(state: State, note: dict[str, Any]) -> None:
    write_private(state.joining_file, json.dumps(note, indent=2) + "\n")


def _redeemed(state: State, token: Token, site: Site, note: dict[str, Any]) -> Joined:
    """Return the member's answer to the noted request, or to a new one, which is noted first.

    Raises:
        AtollError: `join.refused`, `join.unreachable`: this attempt had no effect; a new directory is empty again. `join.unanswered`.
    """
    if note:
        application = Application.parse(note["application"])
    else:
        ports = {"public_port": site.ports["gateway"], "peer_port": site.ports["peer"], "mesh_port": site.ports["mesh"]}
        application = Application.make(token, site.host, ports, token_key="")
        state.stamp()
        _write_note(state, {"id": token.id, "host": site.host, "port": site.port, "application": application.dump()})
    try:
        return redeem(token, application)
    except AtollError as error:
        if not error.kind.definite:
            raise
        if note:  # the earlier attempt may have made the site a member, and anybody may have sent this refusal: the key is kept
            hint = "run the same command again; if the site is to join with a new token, first `atoll destroy`"
            raise AtollError(error.kind.code, error.message, error.hint or hint) from None
        delete_all(state)
        raise


def _settle(state: State, site: Site, joined: Joined, admin_password: str | None) -> None:
    """Write the certificates and member cards that the site received; `up` creates the rest."""
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

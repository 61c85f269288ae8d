"""Brings flavors and key pairs to this site."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from atoll.gateway.bring.context import BringContext
from atoll.gateway.bring.descriptions import differences, lasting
from atoll.gateway.bring.ledger import CopyCreation
from atoll.gateway.bring.references import FLAVOR, KEY_PAIR, Reference
from atoll.gateway.bring.service_client import BringFailed, RemoteResource, ServiceClient
from atoll.gateway.bring.undo import UndoLog
from atoll.gateway.request.paths import segment
from atoll.gateway.resolve.visibility import Viewer

_FLAVOR = ("id", "name", "ram", "vcpus", "disk", "OS-FLV-EXT-DATA:ephemeral", "rxtx_factor", "os-flavor-access:is_public", "description")


async def bring_flavor(client: ServiceClient, found: RemoteResource, undo_log: UndoLog, context: BringContext) -> None:
    """Create a flavor with its extra specs. Give the user's project access to it if it is private.

    Args:
        client: sends requests to the services, on behalf of the user's request.
        found: the flavor at another site.
        undo_log: records the resources that are created.
        context: the parts that bringing needs.

    Raises:
        Disagreement: sites have different flavors under this id.
        BringFailed: Nova refuses, for example because another flavor has the name.
        Unreachable: a service does not answer.
    """
    flavor: dict[str, Any] = found.body
    identifier = segment(flavor["id"])
    body = {name: flavor[name] for name in _FLAVOR} | {"swap": flavor["swap"] or 0}
    public = flavor["os-flavor-access:is_public"]
    here, elsewhere = await context.holders.agreed(FLAVOR, flavor["id"], await client.project())
    creation = CopyCreation(FLAVOR, flavor["id"], found.site, "compute", f"/v2.1/flavors/{identifier}", lasting(FLAVOR, flavor))
    # A private flavor may exist here for another project.
    answer = await undo_log.create(creation, "/v2.1/flavors", {"flavor": body}, absent=here is None, exists=not public)
    if answer is not None and flavor.get("extra_specs"):
        await client.make("POST", "compute", f"/v2.1/flavors/{identifier}/os-extra_specs", {"extra_specs": flavor["extra_specs"]})
    if not public:
        await context.grants.ensure(client, Reference(FLAVOR, flavor["id"]), elsewhere)


async def bring_key_pair(client: ServiceClient, found: RemoteResource, undo_log: UndoLog, _context: BringContext) -> None:
    """Import a key pair's public key with the user's token, since a key pair belongs to its user.

    Args:
        client: sends requests to the services, on behalf of the user's request.
        found: the key pair at another site.
        undo_log: records the resources that are created.

    Raises:
        BringFailed: Nova refuses, for example because of a quota; or the user has made another key pair of this name here meanwhile.
        Unreachable: a service does not answer.
    """
    body = {name: found.body[name] for name in ("name", "public_key", "type")}

    def for_viewer(viewer: Viewer) -> tuple[str, Any]:
        return "/v2.1/os-keypairs", {"keypair": body | {"user_id": viewer.user}}

    def creation(user: str) -> CopyCreation:
        target = f"/v2.1/os-keypairs/{segment(body['name'])}?{urlencode({'user_id': user})}"
        return CopyCreation(KEY_PAIR, body["name"], found.site, "compute", target, lasting(KEY_PAIR, body))

    owner = found.body.get("user_id")
    entry = undo_log.begin(creation(owner)) if owner else None
    try:
        answer = await client.make_as_user("POST", "compute", ("/v2.1/os-keypairs", {"keypair": body}), for_viewer, exists=True)
    except BaseException as error:
        undo_log.fail(entry, error)
        raise
    if answer is not None:
        undo_log.end(creation(answer["keypair"]["user_id"]), entry, created=True)
        return
    undo_log.end(creation(""), entry, created=False)
    there = await client.look(client.sites.here, Reference(KEY_PAIR, body["name"]))
    if there is not None and differences(KEY_PAIR, there, body):
        raise BringFailed(f"another key pair {body['name']} was made here in the meantime")

"""Brings flavors and key pairs."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from atoll.gateway.bring.asking import Asker, Failed, Found
from atoll.gateway.bring.means import Means
from atoll.gateway.bring.references import FLAVOR, KEY_PAIR, Reference
from atoll.gateway.bring.things import differences
from atoll.gateway.bring.undo import Made
from atoll.gateway.request.paths import segment
from atoll.gateway.resolve.sight import Viewer

_FLAVOR = ("id", "name", "ram", "vcpus", "disk", "OS-FLV-EXT-DATA:ephemeral", "rxtx_factor", "os-flavor-access:is_public", "description")


async def bring_flavor(asker: Asker, found: Found, made: Made, means: Means) -> None:
    """Make a flavor with its extra specs. One that is not public becomes accessible to the user's project alone.

    Args:
        asker: of the request.
        found: where it is.
        made: takes note.
        means: of bringing.

    Raises:
        Disagreement: sites have different flavors under this id.
        Failed: Nova refuses; a flavor of the same name, perhaps.
        Unreachable: a service does not answer.
    """
    flavor: dict[str, Any] = found.body
    identifier = segment(flavor["id"])
    body = {name: flavor[name] for name in _FLAVOR} | {"swap": flavor["swap"] or 0}
    public = flavor["os-flavor-access:is_public"]
    _here, elsewhere = await means.holders.agreed(FLAVOR, flavor["id"], await asker.project())
    # A private one may be here for another project.
    answer = await asker.make("POST", "compute", "/v2.1/flavors", {"flavor": body}, exists=not public)
    if answer is not None:
        made.note("compute", f"/v2.1/flavors/{identifier}")
        means.ledger.bring(FLAVOR, flavor["id"], found.site)
        if flavor.get("extra_specs"):
            await asker.make("POST", "compute", f"/v2.1/flavors/{identifier}/os-extra_specs", {"extra_specs": flavor["extra_specs"]})
    if not public:
        await means.grants.ensure(asker, Reference(FLAVOR, flavor["id"]), elsewhere)


async def bring_key_pair(asker: Asker, found: Found, made: Made, _means: Means) -> None:
    """Import a key pair's public key; it is the user's own, so it takes the user's token.

    Args:
        asker: of the request.
        found: where it is.
        made: takes note.

    Raises:
        Failed: Nova refuses; the quota, perhaps. Or the user has made another of this name here in the meantime.
        Unreachable: a service does not answer.
    """
    body = {name: found.body[name] for name in ("name", "public_key", "type")}

    def for_viewer(viewer: Viewer) -> tuple[str, Any]:
        return "/v2.1/os-keypairs", {"keypair": body | {"user_id": viewer.user}}

    answer = await asker.make_as_user("POST", "compute", ("/v2.1/os-keypairs", {"keypair": body}), for_viewer, exists=True)
    if answer is None:
        there = await asker.look(asker.sites.here, Reference(KEY_PAIR, body["name"]))
        if there is not None and differences(KEY_PAIR, there, body):
            raise Failed(f"another key pair {body['name']} was made here in the meantime")
    else:
        user = answer["keypair"]["user_id"]
        made.note("compute", f"/v2.1/os-keypairs/{segment(body['name'])}?{urlencode({'user_id': user})}")

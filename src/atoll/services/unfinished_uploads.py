"""Uploads that Glance had begun when it was killed, settled at its next start.

Upstream leaves their images in `saving`, `uploading` or `importing` for ever. Further data are refused (409), and what had come of the
first stays in the store. Here such an image is `queued` again, as it was before, and what had come is removed: nothing of it was
acknowledged, and its sender may send it again. But data that were staged (`PUT /v2/images/ID/stage`, 204) are acknowledged, and their
image is `uploading` until it is imported: `stage` in glance/api/v2/image_data.py notes its size once they are there. They stay, and an
import of them that was cut short may be asked for again. It runs before Glance answers anybody, and all of a site's Glance is one process.
"""

from __future__ import annotations

import logging
from typing import Any

from atoll.services.contract import Settings

LOG = logging.getLogger(__name__)

UNFINISHED = ("saving", "uploading", "importing")
"""Statuses of images whose data are coming."""

IMPORT = "os_glance_"
"""How the names of properties begin that say how an import goes on."""

STAGED_AT = "os_glance_stage_host"
"""The one of them that says where the data are staged."""


def settle(settings: Settings) -> None:
    """Settle them; Glance's configuration must have been read."""
    from glance import context
    from glance.db.sqlalchemy import api

    admin = context.get_admin_context()
    for status in UNFINISHED:
        for image in api.image_get_all(admin, filters={"status": status}):
            _settle(settings, api, admin, image)


def _settle(settings: Settings, api: Any, admin: Any, image: Any) -> None:
    staged = settings.data / "staging" / image["id"]
    whole = image["status"] != "saving" and staged.exists() and staged.stat().st_size == image["size"]
    (settings.data / "images" / image["id"]).unlink(missing_ok=True)
    if not whole:
        LOG.warning("The upload of image %s was cut short by the end of Glance: it has to be sent again", image["id"])
        staged.unlink(missing_ok=True)
    values = {each["name"]: each["value"] for each in image["properties"] if not each["deleted"]}
    kept = {name: value for name, value in values.items() if not name.startswith(IMPORT) or (whole and name == STAGED_AT)}
    state = {"status": "uploading", "size": image["size"]} if whole else {"status": "queued", "size": None}
    nothing = {"checksum": None, "os_hash_algo": None, "os_hash_value": None, "properties": kept}
    api.image_update(admin, image["id"], state | nothing, purge_props=True, from_state=image["status"])

"""Recovery of uploads and deletions that were under way when Glance was killed.

Upstream leaves their images in `saving`, `uploading` or `importing` for ever: it refuses further data (409), and the partial data stay in
the store. Here such an image becomes `queued` again, as before the upload, and its partial data are removed: they were not
acknowledged, and the client may send them again.

Staged data (`PUT /v2/images/ID/stage`, 204) are acknowledged, and their image stays `uploading` until it is imported: `stage` in
glance/api/v2/image_data.py records the size once the data are complete. Those data stay, and an import that was interrupted may be
requested again.

A deletion that was under way is finished (`patches/glance/image_deletion.py`): its image is `pending_delete`, or already `deleted` and
still listed. All of a site's Glance is one process, and recovery runs before it serves.
"""

from __future__ import annotations

import logging
from typing import Any

from atoll.services.contract import Settings

LOG = logging.getLogger(__name__)

UNFINISHED = ("saving", "uploading", "importing")
"""Statuses of images whose data are arriving."""

DELETED = ("pending_delete", "deleted")
"""Statuses of images that are listed although their deletion has begun."""

IMPORT = "os_glance_"
"""Prefix of the properties that describe the progress of an import."""

STAGED_AT = "os_glance_stage_host"
"""The property that names the host with the staged data."""


def recover(settings: Settings) -> None:
    """Recover interrupted uploads and deletions; Glance's configuration must have been read."""
    from glance import context
    from glance.db.sqlalchemy import api

    admin = context.get_admin_context()
    for status in UNFINISHED:
        for image in api.image_get_all(admin, filters={"status": status}):
            _recover(settings, api, admin, image)
    for status in DELETED:
        # An administrator's query also finds images that are deleted.
        for image in api.image_get_all(admin, filters={"status": status, "deleted": False}):
            _finish_deletion(settings, api, admin, image)


def _finish_deletion(settings: Settings, api: Any, admin: Any, image: Any) -> None:
    LOG.warning("The deletion of image %s was cut short by the end of Glance: it is finished now", image["id"])
    for directory in ("images", "staging"):
        (settings.data / directory / image["id"]).unlink(missing_ok=True)
    api.image_update(admin, image["id"], {"status": "deleted"}, purge_props=True)
    api.image_destroy(admin, image["id"])


def _recover(settings: Settings, api: Any, admin: Any, image: Any) -> None:
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

"""Deletions of images that the database records before their data are removed.

Glance removes the data of an image, and only then records that the image is deleted (`ImagesController.delete`). If Glance is killed in
between, the image is `active` for ever, and has no data. So its status becomes `pending_delete` first, upstream's own status for an image
whose data are to be deleted. If the store refuses, the image gets its status back. `atoll.services.glance.recovery` finishes the deletions
that it finds at the start of Glance.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any

from glance import db, location
from glance.common import exception

PENDING = "pending_delete"
"""The status of an image whose deletion is under way."""


def recording(delete: Callable[..., None]) -> Callable[..., None]:
    """Wrap `ImageProxy.delete`, so that the deletion is recorded before it removes data.

    Args:
        delete: upstream's method.
    """

    @wraps(delete)
    def deleted(self: Any) -> None:
        image = self.image
        if image.protected or not image.locations:
            delete(self)
            return
        api, before = db.get_api(), image.status
        api.image_update(self.context, image.image_id, {"status": PENDING})
        try:
            delete(self)
        except BaseException:
            with suppress(exception.Conflict, exception.ImageNotFound):  # another request has changed the image meanwhile
                api.image_update(self.context, image.image_id, {"status": before}, from_state=PENDING)
            raise

    return deleted


def install() -> None:
    """Have Glance record deletions first, in this process."""
    location.ImageProxy.delete = recording(location.ImageProxy.delete)

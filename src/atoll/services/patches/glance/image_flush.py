"""Data of images that are flushed to the disk before Glance marks the image active.

Glance's file store closes the file of an image without flushing it (`Store.add` in glance_store/_drivers/filesystem.py). The database then
durably records that the image is active, and after a loss of power its file may be truncated or missing. So the file and its directory are
flushed before `add` returns. Staged data, which an import reads later, go through the same method.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from glance_store import exceptions
from glance_store._drivers import filesystem

from atoll.files import flush


def flushing(add: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `Store.add`, so that it returns when the image is on the disk.

    Args:
        add: upstream's method.
    """

    @wraps(add)
    def added(self: Any, image_id: str, *arguments: Any, **keywords: Any) -> Any:
        result = add(self, image_id, *arguments, **keywords)
        path = Path(urlparse(result[0]).path)
        try:
            flush(path)
            flush(path.parent)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise exceptions.StorageWriteDenied from error  # Glance undoes the upload, and answers 503
        return result

    return added


def install() -> None:
    """Have Glance flush the data of images, in this process."""
    filesystem.Store.add = flushing(filesystem.Store.add)

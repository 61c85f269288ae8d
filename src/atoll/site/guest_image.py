"""Upload of the guest image to a site's Glance."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keystoneauth1.exceptions import ClientException

from atoll.errors import AtollError
from atoll.guest import FORMAT, LEAST_MIB
from atoll.services import Settings
from atoll.site.clients import admin_session

_HASH = "sha512"
_OCTETS = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True)
class Uploaded:
    """An image of Glance.

    Attributes:
        id: the image's id.
        made: whether it was uploaded now.
    """

    id: str
    made: bool


class GuestImages:
    """Uploads of guest images to a site, as its administrator.

    Args:
        settings: settings of the site.
        session: a keystoneauth session; `None` means a new one.
    """

    def __init__(self, settings: Settings, session: Any = None) -> None:
        self._settings = settings
        self._session: Any = session or admin_session(settings)

    def upload(self, file: Path, name: str) -> Uploaded:
        """Upload an image that any user may boot, unless the site has one of that name with the same content.

        Args:
            file: the image.
            name: name of the image.

        Raises:
            AtollError: `image.exists`: an image of that name has another content; `site.not_running`: Glance does not answer.
        """
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, _HASH).hexdigest()
        try:
            return self._same(name, digest) or Uploaded(self._make(file, name), made=True)
        except ClientException as error:
            message = f"{self._settings.site} does not accept the image: {str(error).splitlines()[0]}"
            raise AtollError("site.not_running", message, "see `atoll status`; bring it up with `atoll up`") from error

    def _same(self, name: str, digest: str) -> Uploaded | None:
        found = self._session.get(self._url("/v2/images"), params={"name": name, "status": "active"}).json()["images"]
        for image in found:
            if (image["os_hash_algo"], image["os_hash_value"]) == (_HASH, digest):
                return Uploaded(str(image["id"]), made=False)
        if found:
            site = self._settings.site
            hint = f"give another name, or `atoll openstack --site {site} image delete {found[0]['id']}` first"
            raise AtollError("image.exists", f"{site} has an image {name} with another content", hint)
        return None

    def _make(self, file: Path, name: str) -> str:
        fields = {"name": name, "disk_format": FORMAT, "container_format": "bare", "visibility": "public", "min_ram": LEAST_MIB}
        image = str(self._session.post(self._url("/v2/images"), json=fields).json()["id"])
        try:
            with file.open("rb") as content:
                self._session.put(self._url(f"/v2/images/{image}/file"), data=content, headers=_OCTETS)
        except BaseException:
            self._session.delete(self._url(f"/v2/images/{image}"), raise_exc=False)
            raise
        return image

    def _url(self, path: str) -> str:
        return self._settings.url("image", path)

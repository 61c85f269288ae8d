"""Overlays and bases as images of Glance: their properties, the keys that a caller trusts, and their names in the site's cache.

The owner of an image chooses its properties, so none of them is trusted: the digest of a base is computed from its data, and the base and
the result of an overlay come from its signed header. Glance itself computes the hash of an image's data, which never change. Names in the
cache are derived from those hashes, so a caller for whom the cache has a base or a launch image can read the same data in Glance at that
moment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from atoll.identifiers import cached_base, cached_launch, fetched_launch
from atoll.overlay_images import BASE, BASE_IMAGE, DIGEST, EMPTY, KEY, MACHINE, MEMORY, TRUST

PROPERTIES = (BASE, BASE_IMAGE, KEY, DIGEST, MACHINE, MEMORY)
"""The properties of images; snapshots of servers do not inherit them, because they are complete disks."""

MOST_KEYS = 8
"""Greatest number of keys with which an overlay's signature is checked."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_KEY = re.compile(r"ed25519:[0-9a-f]{64}|p256:0[23][0-9a-f]{64}")
_HASH = re.compile(r"[0-9a-f]{32,128}")


class OverlayRefusal(Exception):
    """A reason why a server can't be started from an overlay: one line for its user."""


@dataclass(frozen=True)
class Data:
    """The data of an image.

    Attributes:
        image: the image's id.
        owner: the project that owns it.
        public: whether everybody can use it.
        size: bytes of its data.
        hash: the algorithm and the hash of its data, which Glance has computed.
    """

    image: str
    owner: str
    public: bool
    size: int
    hash: str


@dataclass(frozen=True)
class Overlay:
    """An image that is an overlay.

    Attributes:
        data: its data.
        base: the digest of its base in hexadecimal, according to a property.
        keys: the names of keys, according to a property.
        memory: whether a property says that it has memory; only its signed header decides.
    """

    data: Data
    base: str
    keys: tuple[str, ...]
    memory: bool = False


@dataclass(frozen=True)
class Base:
    """An image that is a base according to its property `atoll_cloudlet_digest`.

    Attributes:
        data: its data.
        digest: the digest in hexadecimal, according to a property.
        machine: the machine type, according to a property.
        keys: the names of keys, one of which has signed the data if they are a packed base; empty for a base that is a disk.
    """

    data: Data
    digest: str
    machine: str
    keys: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name in the cache of the base that has this digest and was made from these data."""
        return cached_base(self.data.hash, self.digest, self.machine)

    def launch(self, overlay: Overlay, key: str) -> str:
        """Return the name in the cache of the launch image that was made from these data and an overlay that a key has signed."""
        return cached_launch(self.name, overlay.data.hash, key)


EMPTY_BASE = Base(Data("", "", public=True, size=0, hash="empty"), EMPTY, "")
"""The base of packed bases, which each site makes itself."""


def file_name(launch: str, *, memory: bool = False) -> str:
    """Return the name of a launch image's disk in Nova's cache of images, which expects 40 hexadecimal digits.

    Args:
        launch: the launch image's name in the cache (`Base.launch`).
        memory: whether the launch image has memory. Then its disk has another name, because a server must not boot from the disk alone.
    """
    return launch[-40:] if memory else launch[:40]


def fetched_names(overlay: Overlay, keys: Iterable[str]) -> dict[str, str]:
    """Return the names of the disk of a launch image that another site has sent, for each key that may have signed the overlay."""
    return {key: fetched_launch(overlay.data.hash, key) for key in keys}


def is_overlay(properties: Mapping[str, Any]) -> bool:
    """Return whether the properties of an image say that it is an overlay."""
    return BASE in properties


def read_overlay(image: Mapping[str, Any]) -> Overlay:
    """Return the overlay that the properties of an image describe.

    Args:
        image: the image, as Nova represents it.

    Raises:
        OverlayRefusal: a property is malformed, or Glance has no hash of the data.
    """
    properties = image["properties"]
    base, keys = str(properties[BASE]), _listed(properties.get(KEY, ""), f"property {KEY} of the image")
    if not _DIGEST.fullmatch(base):
        raise OverlayRefusal(f"property {BASE} of the image: expected the 64 hexadecimal digits of a base's digest")
    return Overlay(_data(image), base, keys, memory=MEMORY in properties)


def read_bases(images: Iterable[Mapping[str, Any]], overlay: Overlay, project: str) -> list[Base]:
    """Return the images that may be the base of an overlay, those of the caller's own project first.

    Args:
        images: images that the caller can read now.
        overlay: the overlay.
        project: the caller's project.
    """
    found = []
    for image in images:
        machine = str(image["properties"].get(MACHINE, ""))
        if image.get("status") == "active" and str(image["properties"].get(DIGEST)) == overlay.base and len(machine.encode()) <= 64:
            with suppress(OverlayRefusal):  # an image without a hash is skipped, and does not prevent the use of the others
                properties = image["properties"]
                keys = _listed(properties.get(KEY, ""), f"property {KEY} of the base") if is_overlay(properties) else ()
                found.append(Base(_data(image), overlay.base, machine, keys[:MOST_KEYS]))
    return sorted(found, key=lambda base: (base.data.owner != project, not base.data.public, base.data.image))


def trusted_keys(overlay: Overlay, project: str, metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the keys whose signatures are accepted for a caller.

    Keys that the overlay's owner names are accepted for the owner's own project; if the image is public, which only an administrator can
    decide, for all projects. For an image of another project, the caller names keys in the server's metadata.

    Args:
        overlay: the overlay.
        project: the caller's project, as Keystone has confirmed it.
        metadata: the metadata of the server that the caller has created.

    Raises:
        OverlayRefusal: no key is accepted, or a name is malformed.
    """
    own = overlay.keys if overlay.data.public or overlay.data.owner == project else ()
    keys = tuple(dict.fromkeys((*_listed(metadata.get(TRUST, ""), f"metadata {TRUST}"), *own)))
    if not keys and overlay.keys:
        raise OverlayRefusal(f"the overlay is another project's: name the key that you trust, `--property {TRUST}=KEY`")
    if not keys:
        raise OverlayRefusal(f"no key is trusted: expected one in property {KEY} of the image, or in metadata {TRUST} of the server")
    return keys[:MOST_KEYS]


def _listed(text: object, where: str) -> tuple[str, ...]:
    keys = tuple(filter(None, (each.strip() for each in str(text).split(","))))
    if not all(map(_KEY.fullmatch, keys)):
        raise OverlayRefusal(f"{where}: expected names of keys, which `atoll cloudlet upload` prints")
    return keys


def _data(image: Mapping[str, Any]) -> Data:
    algorithm, value, size = image.get("os_hash_algo"), image.get("os_hash_value"), image.get("size")
    if not isinstance(value, str) or not _HASH.fullmatch(value) or not isinstance(size, int) or size <= 0:
        raise OverlayRefusal(f"image {image['id']} has no data, or Glance knows no hash of them: upload it again")
    public = bool(image.get("is_public", image.get("visibility") == "public"))
    return Data(str(image["id"]), str(image.get("owner") or ""), public, size, f"{algorithm}:{value}")

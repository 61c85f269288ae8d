"""Bases and overlays as images of Glance, with the properties by which a site starts servers from them.

A base of a disk is uploaded as an ordinary image: its disk in qcow2, from which any OpenStack can boot. A base with memory is packed
(`empty`), and is a base and an overlay at the same time. An overlay is an image that only sites of Atoll can start. The user who uploads an
image owns it, and needs no administrator.
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from atoll import overlay_images
from atoll.cloudlet import image
from atoll.cloudlet.base import Report, check_content
from atoll.cloudlet.description import MEMORY, ImageDescription
from atoll.cloudlet.empty import pack
from atoll.cloudlet.failures import invalid
from atoll.cloudlet.header import Header, read_signed
from atoll.cloudlet.inspection import check_overlay
from atoll.cloudlet.keys import SigningKey, TrustedKey
from atoll.cloudlet.resume import HARDWARE
from atoll.cloudlet.source import opened
from atoll.errors import AtollError

DISK = "disk"
"""The part from which a server boots."""

_HASH = "sha512"
_OCTETS = {"Content-Type": "application/octet-stream"}
_PIECE = 1 << 20  # bytes


class Glance(Protocol):
    """A client of Glance's API, such as openstacksdk's image proxy; errors are exceptions."""

    def get(self, path: str, *, params: Mapping[str, str]) -> Any:
        """Send GET to a path of the API, and return the answer."""

    def post(self, path: str, *, json: Mapping[str, Any]) -> Any:
        """Send POST to a path of the API, and return the answer."""

    def put(self, path: str, *, data: Sending, headers: Mapping[str, str]) -> Any:
        """Send PUT to a path of the API, and return the answer."""

    def delete(self, path: str) -> Any:
        """Send DELETE to a path of the API, and return the answer."""


@dataclass(frozen=True)
class ImageRequest:
    """The name and the fields that the user wants for a new image.

    Attributes:
        name: the image's name.
        fields: further fields and properties of Glance, such as `visibility`.
    """

    name: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Uploaded:
    """An image of Glance.

    Attributes:
        id: the image's id.
        made: whether the image was uploaded now; False if the project had it already.
        properties: the properties that describe the image's content.
    """

    id: str
    made: bool
    properties: Mapping[str, str]


class Sending:
    """A file that is sent as the body of a request, with a known length; it reports the progress of reading.

    Args:
        path: the file.
        report: called with the progress.
    """

    def __init__(self, path: Path, report: Report) -> None:
        self._path, self._report = path, report
        self._size = path.stat().st_size
        self._done = 0

    def __enter__(self) -> Sending:
        self._file = self._path.open("rb")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.read(_PIECE):
            yield piece

    def read(self, length: int = -1) -> bytes:
        """Return at most `length` next bytes; all remaining bytes if `length` is negative."""
        piece = self._file.read(length)
        self._done += len(piece)
        self._report("uploading", self._done, self._size)
        return piece


class Uploads:
    """Uploads images into one project of a cloud.

    Args:
        glance: the client of Glance.
        project: the id of the user's project.
        report: called with the progress.
    """

    def __init__(self, glance: Glance, project: str, report: Report) -> None:
        self._glance, self._project, self._report = glance, project, report

    def base(self, path: Path, request: ImageRequest, key: SigningKey | None = None) -> Uploaded:
        """Upload a base, unless the project has an image of it.

        Args:
            path: the base's directory.
            request: the name and fields of the image.
            key: the key that signs a base with memory.

        Raises:
            AtollError: `cloudlet.invalid`: the base is damaged, or has other parts than a disk or a guest with memory; `cloudlet.key`: a
                base with memory needs a key; `cloudlet.upload`: qemu-img is missing, or has failed.
        """
        with image.opened(path) as found:
            _check_parts(found.description, str(path))
            if found.description.part(MEMORY) is not None:
                return self._packed(found, request, key)
            properties = {overlay_images.DIGEST: found.description.digest.hex()}
            if found.description.machine:
                properties[overlay_images.MACHINE] = found.description.machine
            held = self._held(properties)
            if held:
                return Uploaded(str(held[0]["id"]), made=False, properties=properties)
            check_content(found, self._report)
            with tempfile.TemporaryDirectory(prefix="atoll-") as directory:
                packed = Path(directory) / "disk.qcow2"
                self._report("packing", 0, 1)
                _pack(path / DISK, packed)
                fields = _fields(request, found.description, "qcow2") | properties
                return Uploaded(self._upload(packed, fields), made=True, properties=properties)

    def overlay(self, path: Path, trusted: Sequence[TrustedKey], request: ImageRequest) -> Uploaded:
        """Verify a whole overlay, and upload it, unless the project has an image of it.

        Args:
            path: the overlay's file.
            trusted: the trusted keys, one of which must have signed the overlay.
            request: the name and fields of the image.

        Raises:
            AtollError: as for `read_signed` and `check_overlay`; `cloudlet.invalid`: the overlay's result has other parts than a disk
                or a guest with memory.
        """
        header, key = _verified(path, trusted, self._report)
        return self._overlay(path, header, key, request, {})

    def _packed(self, base: image.Image, request: ImageRequest, key: SigningKey | None) -> Uploaded:
        """Pack a base with memory, and upload it as an overlay of the empty base that is also a base.

        Raises:
            AtollError: as for `base`.
        """
        if key is None:
            raise AtollError("cloudlet.key", f"{base.path} has memory: expected a key that signs it", "give your private key with --key")
        described = base.description
        properties = {overlay_images.DIGEST: described.digest.hex(), overlay_images.MACHINE: described.machine}
        if held := self._held({**properties, overlay_images.BASE: overlay_images.EMPTY, overlay_images.KEY: key.trusted.name}):
            return Uploaded(str(held[0]["id"]), made=False, properties=properties)
        check_content(base, self._report)
        with tempfile.TemporaryDirectory(prefix="atoll-") as directory:
            packed = Path(directory) / "overlay"
            pack(base.path, packed, key, self._report)
            with opened(str(packed), None) as source:
                header = read_signed(source.read, [key.trusted], str(base.path))[0]
            return self._overlay(packed, header, key.trusted, request, properties)

    def _overlay(self, path: Path, header: Header, key: TrustedKey, request: ImageRequest, more: Mapping[str, str]) -> Uploaded:
        """Upload a verified overlay, with further properties, unless the project has an image of it."""
        described = {overlay_images.BASE: header.base.hex(), overlay_images.KEY: key.name, **_memory(header.result), **more}
        query = {overlay_images.DIGEST: header.base.hex(), "status": "active"}
        bases = self._glance.get("/images", params=query).json()["images"]
        properties = described | ({overlay_images.BASE_IMAGE: str(bases[0]["id"])} if bases else {})
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, _HASH).hexdigest()
        for held in self._held(described):
            if (held.get("os_hash_algo"), held.get("os_hash_value")) == (_HASH, digest):
                return Uploaded(str(held["id"]), made=False, properties=properties)
        made = self._upload(path, _fields(request, header.result, "raw") | properties)
        return Uploaded(made, made=True, properties=properties)

    def _held(self, properties: Mapping[str, str]) -> list[Mapping[str, Any]]:
        """Return the project's own images that have the given properties."""
        query = {**properties, "owner": self._project, "status": "active"}
        found: list[Mapping[str, Any]] = self._glance.get("/images", params=query).json()["images"]
        return found

    def _upload(self, file: Path, fields: Mapping[str, Any]) -> str:
        """Create an image and send its data, and return its id; if the data can't be sent, delete the image."""
        made = str(self._glance.post("/images", json=fields).json()["id"])
        try:
            with Sending(file, self._report) as content:
                self._glance.put(f"/images/{made}/file", data=content, headers=_OCTETS)
        except BaseException:
            self._glance.delete(f"/images/{made}")
            raise
        return made


def _verified(path: Path, trusted: Sequence[TrustedKey], report: Report) -> tuple[Header, TrustedKey]:
    """Verify an overlay, and return its header and the key that has signed it."""
    with opened(str(path), None) as source:
        header, signer = read_signed(source.read, trusted, source.name)
        _check_parts(header.result, str(path))
        check_overlay(source, header, report)
    return header, trusted[signer]


def _check_parts(description: ImageDescription, where: str) -> None:
    names = [part.name for part in description.parts]
    if names not in ([DISK], [DISK, HARDWARE, MEMORY]):
        expected = f"expected {DISK} alone, or {DISK}, {HARDWARE} and {MEMORY}"
        raise invalid(where, f"it has the parts {', '.join(names)}: {expected}", "`atoll cloudlet capture` writes the files")


def _memory(description: ImageDescription) -> dict[str, str]:
    """Return the properties of an image with memory; Nova gives its servers the machine type `hw_machine_type`."""
    memory = description.part(MEMORY)
    if memory is None:
        return {}
    return {overlay_images.MEMORY: str(memory.size >> 20), "hw_machine_type": description.machine}


def _fields(request: ImageRequest, description: ImageDescription, disk_format: str) -> dict[str, Any]:
    """Return the fields of a new image; Nova refuses flavors with a smaller disk than `min_disk`."""
    disk = description.part(DISK)
    assert disk is not None
    size_gib = -(-disk.size // 2**30)
    return {"name": request.name, "disk_format": disk_format, "container_format": "bare", "min_disk": size_gib, **request.fields}


def _pack(disk: Path, target: Path) -> None:
    """Convert a raw disk to compressed qcow2."""
    try:
        subprocess.run(["qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", disk, target], check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise AtollError("cloudlet.upload", "qemu-img is missing: it compresses the disk of a base", "`apt install qemu-utils`") from None
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["it failed without a message"])[-1]
        raise AtollError("cloudlet.upload", f"qemu-img: {last}", "free some space in $TMPDIR") from None

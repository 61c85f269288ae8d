"""Servers from overlays: the root disk of an image that is an overlay comes from its launch image.

Upstream's driver gets each root disk through `LibvirtDriver._try_fetch_image_cache` (nova/virt/libvirt/driver.py): for a new server, a
rescue, a rebuild, and for a guest whose disk is complete already. It names the file of an image in its cache after the image's id, and does
not check whether the caller can read the images from which the file was made. So:

- An overlay's disk has another name in the cache, which follows from the data of both images (`services/nova/synthesis`). Before the
  file is used, both images are read with the caller's own token.
- A guest that has its disk keeps the disk's backing file without a check: the creator could read it when the guest was created. QEMU's user
  can write the disk's header, so a missing backing file is made again only if its name in the header is the one that follows from the
  images.
- If a server was created from an overlay, or its creator names a key to trust, its image is never started as a plain disk: the image's
  owner could have deleted the property that marks it as an overlay.
- `LibvirtDriver._rebase_original_qcow2_image` makes the cached image the backing file of an unshelved guest's snapshot again. The cache has
  no file of that name for an overlay, so the disk becomes complete in itself.

A server that arrives by a hand-off (`arriving_servers.py`) gets the disk that the gateway has received, instead of its image's data.
nova-compute takes it with one rename, so that no two servers can have it. Only a server that is being built takes it; a rebuild begins with
the image.

Glance is asked whether an image is an overlay in two cases: if the properties that Nova has kept with the server mark it as one, or if a
new disk is not from the server's own image, as in a rescue. So servers from other images cause no further request.

Whether upstream gains an extension point for other sources of images is an open question; its hypervisors' drivers have none.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from nova import exception
from nova.compute import vm_states
from nova.conf import CONF
from nova.virt import images
from nova.virt.libvirt import driver
from nova.virt.libvirt import utils as libvirt_utils
from oslo_concurrency import lockutils

from atoll.identifiers import ARRIVALS, HANDOFF_HINT, arrival_file
from atoll.services import common
from atoll.services.contract import Settings
from atoll.services.nova.synthesis import overlays
from atoll.services.nova.synthesis.disks import Caller, Disk, Disks
from atoll.services.nova.synthesis.gateway_client import GatewayClient, ServerCreator
from atoll.services.nova.synthesis.overlays import OverlayRefusal
from atoll.services.patches.nova import image_check

_MOST_LISTED = 50
"""Greatest number of images that are listed as possible bases of an overlay."""


class OverlayRefused(exception.ImageUnacceptable):
    """Raised for a server that cannot be started from an overlay."""

    msg_fmt = "%(reason)s"


@contextmanager
def _refusing(image: str) -> Iterator[None]:
    """Turn a refusal that is raised in the context into an exception of Nova."""
    try:
        yield
    except OverlayRefusal as refusal:
        raise OverlayRefused(image_id=image, reason=str(refusal)) from refusal


class CallersImages:
    """Images of Glance as the caller of a request can use them; see `synthesis.disks.Images`.

    Args:
        context: Nova's context of the request, with the caller's token.
        instance: the server.

    Attributes:
        gateway: sends requests to this site's gateway.
    """

    gateway: GatewayClient

    def __init__(self, context: Any, instance: Any) -> None:
        self._context = context
        self._project = str(instance.project_id)
        self._trusted_certs = instance.trusted_certs

    def get(self, image: str) -> Mapping[str, Any]:
        """Return an image as the caller reads it now.

        Raises:
            ImageNotFound, ImageNotAuthorized: the caller cannot read it.
        """
        found: Mapping[str, Any] = images.IMAGE_API.get(self._context, image)
        return found

    def with_property(self, name: str, value: str) -> list[Mapping[str, Any]]:
        """Return the images that the caller can read and that have a property.

        An administrator who evacuates or rebuilds another project's server can read all images. Then only those are returned that the
        server's project owns, and public ones.
        """
        found = images.IMAGE_API.get_all(self._context, filters={name: value, "status": "active"}, limit=_MOST_LISTED)
        foreign = str(self._context.project_id) != self._project
        return [image for image in found if not foreign or image.get("is_public") or str(image.get("owner")) == self._project]

    def bring_base(self, overlay: str, wrong: Collection[str]) -> None:
        """Have the gateway bring another image that may be the base of an overlay, as the caller.

        Raises:
            OverlayRefusal: none can be brought.
        """
        token = str(self._context.auth_token or "")
        if not token:  # a request of Nova's own
            raise OverlayRefusal("the overlay's base is not at this site, and no user asks for it: reboot or rebuild the server")
        self.gateway.bring_base(overlay, ServerCreator(token, str(self._context.request_id)), wrong)

    def fetch_launch(self, overlay: str, keys: Sequence[str], path: Path, max_bytes: int) -> bool:
        """Fetch the disk of a launch image from another site, unverified and of at most `max_bytes` bytes; return False if there is none.

        An administrator who rebuilds another project's server could read more there than the server's project.
        """
        token = str(self._context.auth_token or "")
        if not token or str(self._context.project_id) != self._project:
            return False
        return self.gateway.fetch_launch(overlay, ServerCreator(token, str(self._context.request_id)), keys, path, max_bytes)

    def fetch(self, image: str, path: Path) -> None:
        """Fetch the data of an image into a new file."""
        images.fetch(self._context, image, str(path), self._trusted_certs)

    def fetch_raw(self, image: str, path: Path, max_bytes: int) -> None:
        """Fetch a disk into a new file, in raw format, with all of upstream's checks.

        Raises:
            ImageUnacceptable: it is not a disk that upstream accepts, or larger than `max_bytes` bytes.
        """
        with image_check.limited(max_bytes):
            images.fetch_to_raw(self._context, image, str(path), self._trusted_certs)

    def check_raw(self, image: str, path: Path) -> None:
        """Refuse a disk that QEMU could take for a format other than raw: in other formats, a disk can refer to files of this machine.

        As in upstream's `fetch_to_raw`, Nova's inspection and QEMU must agree: QEMU supports more formats.

        Raises:
            OverlayRefusal: it is not a raw disk.
        """
        try:
            images.do_image_deep_inspection({"disk_format": "raw"}, image, str(path))
            taken = images.qemu_img_info(str(path)).file_format
        except (exception.ImageUnacceptable, exception.InvalidDiskInfo):
            taken = None
        if taken != "raw":
            raise OverlayRefusal("the overlay's disk begins like an image of another format: expected a raw disk")


class OverlayImages(driver.LibvirtDriver):
    """The libvirt driver, which makes disks from overlays."""

    disks: Disks
    """The maker of this site's disks."""

    arrivals: Path
    """The directory of the disks of servers that arrive."""

    def _try_fetch_image_cache(
        self, image: Any, fetch_func: Any, context: Any, filename: str, image_id: str, *more: Any, **keywords: Any
    ) -> None:
        """Make a guest's disk with the file of an image as its backing file; see upstream's method for the arguments."""
        instance, *rest = more
        kept, exists, own = overlays.is_overlay(_kept(instance)), image.exists(), image_id == instance.image_ref
        make = super()._try_fetch_image_cache
        if own and (arrived := self._arrived(context, instance, image)) is not None:
            make(image, arrived[0], context, arrived[1], image_id, *more, **keywords)
            return

        def make_over(fetch: Any, name: str) -> None:
            make(image, fetch, context, name, image_id, *more, **keywords)

        if not kept and own and not exists and overlays.TRUST in instance.metadata:
            with _refusing(image_id):
                raise OverlayRefusal(f"the image is not an overlay, so no key that metadata {overlays.TRUST} names has signed it")
        if not kept and (own or exists):
            make_over(fetch_func, filename)
            return
        size = keywords.get("size", rest[0] if rest else None)
        backing = libvirt_utils.get_disk_backing_file(image.path) if exists else None
        if exists and backing is None:  # a complete disk, as after unshelving
            if size:
                image.resize_image(size)
            return
        if backing is not None and self.disks.has(backing):
            make_over(_gone, backing)
            return
        try:
            with self._source(context, instance, image_id, backing=backing, max_bytes=size) as source:
                make_over(*(source or (fetch_func, filename)))
        except (OverlayRefused, exception.ImageNotFound):
            if backing is None or not keywords.get("fallback_from_host", rest[1] if len(rest) > 1 else None):
                raise
            make_over(_gone, backing)  # upstream copies it from the other host

    def _arrived(self, context: Any, instance: Any, image: Any) -> tuple[Callable[..., None], str] | None:
        """Return the source of the disk of a server that arrives, or has arrived, by a hand-off; `None` for any other disk.

        Returns:
            A function that moves the disk to its name in Nova's cache, and that name.

        Raises:
            OverlayRefused: the disk is not here, or QEMU could take it for another format than raw.
        """
        if HANDOFF_HINT not in instance.system_metadata:
            return None
        file = self.arrivals / arrival_file(instance.uuid, instance.system_metadata[HANDOFF_HINT])
        name = hashlib.sha1(file.name.encode(), usedforsecurity=False).hexdigest()
        if image.exists():
            return (_gone, name) if libvirt_utils.get_disk_backing_file(image.path) == name else None
        if instance.vm_state != vm_states.BUILDING:
            return None
        with _refusing(instance.image_ref):
            if file.is_file():
                CallersImages(context, instance).check_raw(instance.image_ref, file)
            elif not (Path(CONF.instances_path) / CONF.image_cache.subdirectory_name / name).is_file():
                raise OverlayRefusal("the hand-off was withdrawn: the server's disk is not at this site")
        return partial(_move, file), name

    @contextmanager
    def _source(
        self, context: Any, instance: Any, image_id: str, *, backing: str | None, max_bytes: int | None
    ) -> Iterator[tuple[Callable[..., None], str] | None]:
        """Yield the source of a guest's disk in images as the caller reads them now.

        Args:
            context: the context of the request.
            instance: the server.
            image_id: the id of the image.
            backing: the name of the existing disk's backing file; `None` for a new disk.
            max_bytes: the greatest size of the disk in bytes.

        Yields:
            A function that moves the disk to its name in Nova's cache, and that name; `None` if the image is not an overlay.

        Raises:
            OverlayRefused: no disk can be made.
            ImageNotFound: the caller cannot read the image.
        """
        found = CallersImages(context, instance)
        shown = found.get(image_id)
        with _refusing(image_id):
            if not overlays.is_overlay(shown["properties"]):
                if image_id == instance.image_ref or backing is not None:
                    raise OverlayRefusal("the image was an overlay when the server was created, and is none now")
                yield None
                return
            conditions = self.resume_conditions(instance, shown)
            with self.disks.disk(shown, Caller(str(instance.project_id), instance.metadata), found, max_bytes, conditions) as disk:
                if backing not in {None, disk.name}:
                    raise OverlayRefusal(
                        "the backing file of the server's disk is missing, and the image now yields another one: rebuild the server"
                    )
                if backing is None and image_id == instance.image_ref:
                    self.keep_memory(instance, disk)
                yield partial(_move, disk.made), disk.name

    def resume_conditions(self, _instance: Any, _image: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the conditions under which a server may resume memory; a driver that can resume it overrides this."""
        return {"refused": "this site can't resume memory: use an overlay of a disk alone"}

    def keep_memory(self, _instance: Any, _disk: Disk) -> None:
        """Keep the memory of a launch image for a guest that is being created; a driver that can resume it overrides this."""

    def _rebase_original_qcow2_image(self, context: Any, instance: Any, backend: Any) -> None:
        """Give an unshelved disk its image's file as backing file again; make it complete in itself if that file was another one."""
        if not overlays.is_overlay(_kept(instance)) and HANDOFF_HINT not in instance.system_metadata:
            super()._rebase_original_qcow2_image(context, instance, backend)
        elif self._needs_rebase_original_qcow2_image(instance, backend):
            self._rebase_with_qemu_img(backend.path, None)


def _gone(target: str, image_id: str = "", **_: Any) -> None:
    """Fail in place of fetching a file that should exist already.

    Raises:
        ImageNotFound: always; upstream copies the file from the server's other host, if there is one.
    """
    raise exception.ImageNotFound(image_id=image_id or target)


def _move(made: Path | None, target: str, **more: Any) -> None:
    """Move a finished disk to its name in Nova's cache, atomically.

    Raises:
        ImageNotFound: the cache had the disk, and has lost it meanwhile.
    """
    if made is None:
        _gone(target, **more)
    part = f"{target}.part"
    shutil.move(str(made), part)
    Path(part).replace(target)


def _kept(instance: Any) -> dict[str, Any]:
    """Return the properties of a server's image that Nova has kept with the server."""
    prefix = "image_"
    return {name.removeprefix(prefix): value for name, value in instance.system_metadata.items() if name.startswith(prefix)}


def prepare(settings: Settings) -> None:
    """Prepare the cache of bases and launch images of a site, and the client of its gateway, for the driver.

    Args:
        settings: the site's settings.
    """
    CallersImages.gateway = GatewayClient(settings.gateway_url, common.certificate(settings))
    limit = settings.cloudlet_cache_gib << 30
    held = Path(CONF.instances_path) / CONF.image_cache.subdirectory_name
    OverlayImages.arrivals = settings.data / "cloudlet" / ARRIVALS
    OverlayImages.disks = Disks(settings.data / "cloudlet", limit, held, lambda name: lockutils.lock(f"cloudlet-{name}"))
    OverlayImages.disks.clean()

"""Keeps copies of images at the sites that their owners choose.

The property `atoll_keep` of an image is `pull`, `everywhere`, or a list of sites.

With `pull`, the default, a site fetches an image when it is first used there. Each site reads all policies in the document that the mesh
replicates, and pulls the images that it is to keep, even after it has been cut off.

A record of the document is only a hint. The property of the image itself decides, which Glance lets only the image's owner and
administrators change. It is read at sites that hold the same image, with the same owner and the same data. If they differ, or if another
image has the id at this site, nothing is pulled, and `atoll conflicts` lists the image.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from typing import Any

from atoll.gateway.bring.descriptions import Description
from atoll.gateway.bring.images import ImageTransfers
from atoll.gateway.bring.pull import PullFailed
from atoll.gateway.bring.references import IMAGE
from atoll.gateway.bring.service_client import BringFailed
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.request.paths import is_uuid
from atoll.gateway.sites import Sites
from atoll.mesh.document import Document
from atoll.mesh.record import Change

LOG = logging.getLogger(__name__)

KIND = "image_policy"
PROPERTY = "atoll_keep"
EVERYWHERE = "everywhere"
PULL = "pull"

AGAIN_S = 30.0
"""Seconds until an image that could not be pulled is tried again."""

_ITEM = re.compile(r"/v2/images/([0-9a-fA-F-]{36})")


def wanted(keep: object, site: str) -> bool:
    """Return whether a policy names a site as one that keeps the image."""
    return isinstance(keep, str) and (keep == EVERYWHERE or site in {name.strip() for name in keep.split(",")})


class Keeper:
    """Records the policies of images and follows all policies at this site.

    Args:
        sites: sends requests to the sites.
        document: the mesh's replicated document.
        images: pulls images.
    """

    def __init__(self, sites: Sites, document: Document, images: ImageTransfers) -> None:
        self._sites = sites
        self._document = document
        self._images = images
        self._wake = asyncio.Event()
        self._have: set[str] = set()
        document.on_change(self._on_change)

    def note(self, call: Call, reply: Reply) -> None:
        """Record the policy of an image that an answered request for Glance shows.

        Args:
            call: any request; most do not concern policies.
            reply: the request's answer.
        """
        if call.service != "image" or not reply.ok or call.method not in {"POST", "PATCH", "DELETE"}:
            return
        item = _ITEM.fullmatch(call.path)
        if call.method == "DELETE":
            known = self._document.record(KIND, item[1]) if item is not None else None
            if known is not None and known.present and reply.identity.get("owner") == known.fields.get("owner"):
                self._document.write([Change(KIND, known.key, {"present": False})])
        elif item is not None or call.path == "/v2/images":
            self._write(reply.json())

    def _write(self, image: dict[str, Any]) -> None:
        keep = image.get(PROPERTY)
        known = self._document.record(KIND, image["id"])
        if known is not None and known.present:
            if known.fields.get("owner") not in {None, image.get("owner")}:
                return  # another owner's image under the same id: this policy is not about it
        elif keep is None:
            return
        fields = {"keep": keep or PULL, "owner": image.get("owner"), "present": True}
        if known is None or any(known.fields.get(name) != value for name, value in fields.items()):
            self._document.write([Change(KIND, image["id"], fields)])

    def wake(self, *_ignored: object) -> None:
        """Check the policies now, since a site may be reachable again; a callback for `Mesh.on_members`."""
        self._wake.set()

    def _on_change(self, touched: frozenset[tuple[str, str]]) -> None:
        if any(kind == KIND for kind, _ in touched):
            self._wake.set()

    async def run(self) -> None:
        """Pull the images that this site is to keep, until cancelled."""
        self._images.forget_old(time.time())
        while True:
            self._wake.clear()
            for record in [each for each in self._document.records(KIND) if wanted(each.fields.get("keep"), self._sites.here)]:
                try:
                    await self._keep(record.key, record.fields.get("owner"))
                except (BringFailed, PullFailed, Unreachable, OSError) as error:
                    LOG.warning("image %s is to be kept here, and can't be pulled yet: %s", record.key, error)
            try:
                async with asyncio.timeout(AGAIN_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _keep(self, image_id: str, owner: str | None) -> None:
        """Pull an image, unless this site has it.

        Args:
            image_id: the image's id.
            owner: the id of the owning project according to the record; `None` in a record of an earlier version.
        """
        if image_id in self._have or not is_uuid(image_id.lower()):
            return
        here = await self._images.holders.here(IMAGE, image_id)
        if here is None or here.body["status"] != "active":
            _here, elsewhere = await self._images.holders.agreed(IMAGE, image_id)
            holders = [each for each in elsewhere if each.body["status"] == "active" and _fits(each, owner)]
            if not any(wanted(each.body.get(PROPERTY), self._sites.here) for each in holders):
                return
            LOG.info("image %s is to be kept here: pulling it from %s", image_id, holders[0].site)
            await self._images.pull(image_id, {each.site: each.body for each in holders})
        elif not _fits(here, owner):
            raise BringFailed(f"another image has this id at {self._sites.here}")
        self._have.add(image_id)


def _fits(image: Description, owner: str | None) -> bool:
    """Return whether an image has the owner that a record names."""
    return owner is None or image.body.get("owner") == owner

"""Keeps images where their owners want them: the property `atoll_keep` of an image is `pull`, `everywhere`, or a list of sites.

`pull` (or none) means that a site fetches an image when it is first used there. Each site reads all policies in the document that the
mesh replicates, and pulls what it shall keep; so it also does after it was cut off.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from typing import Any

from atoll.gateway.bring.asking import LOOK_S, Asker, Failed
from atoll.gateway.bring.images import Images
from atoll.gateway.bring.pull import PullFailed
from atoll.gateway.call import Call, Reply, Unreachable
from atoll.gateway.headers import request_id
from atoll.gateway.sites import Sites
from atoll.mesh.document import Document
from atoll.mesh.record import Change

LOG = logging.getLogger(__name__)

KIND = "image_policy"
PROPERTY = "atoll_keep"
EVERYWHERE = "everywhere"
PULL = "pull"

AGAIN_S = 30.0
"""After so many seconds, what could not be pulled is tried again."""

_ITEM = re.compile(r"/v2/images/([0-9a-fA-F-]{36})")


def wanted(keep: object, site: str) -> bool:
    """Whether a policy says that a site keeps the image."""
    return isinstance(keep, str) and (keep == EVERYWHERE or site in {name.strip() for name in keep.split(",")})


class Keeper:
    """Writes down the policies of images that go by, and follows all policies at this site.

    Args:
        sites: to ask.
        document: of the mesh.
        images: to pull by.
    """

    def __init__(self, sites: Sites, document: Document, images: Images) -> None:
        self._sites = sites
        self._document = document
        self._images = images
        self._wake = asyncio.Event()
        self._have: set[str] = set()
        document.on_change(self._on_change)

    def note(self, call: Call, reply: Reply) -> None:
        """Look at a request for Glance that has been answered, and write down what it says of an image's policy.

        Args:
            call: any request; most are of no interest.
            reply: its answer.
        """
        if call.service != "image" or not reply.ok or call.method not in {"POST", "PATCH", "DELETE"}:
            return
        item = _ITEM.fullmatch(call.path)
        if call.method == "DELETE":
            if item is not None and self._document.record(KIND, item[1]) is not None:
                self._document.write([Change(KIND, item[1], {"present": False})])
        elif item is not None or call.path == "/v2/images":
            self._write(reply.json())

    def _write(self, image: dict[str, Any]) -> None:
        keep = image.get(PROPERTY)
        known = self._document.record(KIND, image["id"])
        if keep is None and (known is None or not known.present):
            return
        keep = keep or PULL
        if known is None or not known.present or known.fields.get("keep") != keep:
            self._document.write([Change(KIND, image["id"], {"keep": keep, "present": True})])

    def wake(self, *_ignored: object) -> None:
        """Look at once, since a site may have come back; fit for `Mesh.on_members`."""
        self._wake.set()

    def _on_change(self, touched: frozenset[tuple[str, str]]) -> None:
        if any(kind == KIND for kind, _ in touched):
            self._wake.set()

    async def run(self) -> None:
        """Pull what this site shall keep, until cancelled."""
        self._images.forget_old(time.time())
        while True:
            self._wake.clear()
            for image_id in [record.key for record in self._document.records(KIND) if wanted(record.fields.get("keep"), self._sites.here)]:
                try:
                    await self._keep(image_id)
                except (Failed, PullFailed, Unreachable, OSError) as error:
                    LOG.warning("image %s shall be kept here, and can't be pulled yet: %s", image_id, error)
            try:
                async with asyncio.timeout(AGAIN_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _keep(self, image_id: str) -> None:
        if image_id in self._have:
            return
        token = await self._sites.admin_token()
        asker = Asker(self._sites, token, request_id(None))
        there = await asker.get(self._sites.here, "image", f"/v2/images/{image_id}")
        if there is None or there["status"] != "active":
            holders = await self._holders(asker, image_id)
            if not holders:
                return
            LOG.info("image %s shall be kept here: pulling it from %s", image_id, holders[0])
            await self._images.pull(image_id, holders)
        self._have.add(image_id)

    async def _holders(self, asker: Asker, image_id: str) -> list[str]:
        sites = self._sites.reachable()
        call = asker.call("GET", "atoll", f"/images/{image_id}", "")
        answers = await asyncio.gather(*(self._sites.send(site, call, LOOK_S) for site in sites), return_exceptions=True)
        return [site for site, answer in zip(sites, answers, strict=True) if isinstance(answer, Reply) and answer.ok]

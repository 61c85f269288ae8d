"""Brings images: fetches their data once, however many requests wait for it, and uploads it to this site's Glance under the same id."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atoll.gateway.bring.descriptions import Disagreement, agree, differences, least_visible
from atoll.gateway.bring.holders import Holders
from atoll.gateway.bring.ledger import Ledger
from atoll.gateway.bring.link_rates import LinkRates
from atoll.gateway.bring.pull import ImagePull, PullFailed, SourceImage
from atoll.gateway.bring.references import IMAGE
from atoll.gateway.bring.service_client import BringFailed, ServiceClient
from atoll.gateway.copies.conflicts import Conflicts
from atoll.gateway.request.paths import segment
from atoll.gateway.sites import Sites

LOG = logging.getLogger(__name__)

PATIENCE_S = 60.0
"""Seconds without progress after which a request for an image fails. The next request resumes the transfer."""

FORGOTTEN_S = 7 * 86400
"""Seconds after which an unused partial file is removed."""

_GIVE_S = 3600.0
_OWN = frozenset(
    (
        *(
            "status",
            "size",
            "virtual_size",
            "checksum",
            "os_hash_algo",
            "os_hash_value",
            "created_at",
            "updated_at",
            "file",
            "schema",
            "self",
        ),
        *("locations", "direct_url", "stores"),
    )
)
"""Fields that Glance sets itself."""


class ImageTransfers:
    """The images that are on their way to this site.

    Args:
        sites: sends requests to the sites.
        directory: the directory of the partial files.
        patience_s: see `PATIENCE_S`.
        ledger: records the images that were brought; by default, in memory.
        conflicts: records disagreements; by default, in memory.

    Attributes:
        holders: asks which sites hold an image.
        rates: the rates of the links, as the transfers measure them.
    """

    def __init__(
        self,
        sites: Sites,
        directory: Path,
        patience_s: float = PATIENCE_S,
        *,
        ledger: Ledger | None = None,
        conflicts: Conflicts | None = None,
    ) -> None:
        self._sites = sites
        self._ledger = ledger or Ledger()
        self._conflicts = conflicts or Conflicts()
        self.holders = Holders(sites, self._ledger, self._conflicts)
        self.rates = LinkRates(sites.rtt_ms)
        self._directory = directory
        self._patience_s = patience_s
        self._pulls: dict[str, tuple[ImagePull, asyncio.Task[None]]] = {}

    async def pull(self, image_id: str, holders: Mapping[str, Mapping[str, Any]]) -> None:
        """Bring an image, or wait for its transfer if it is already under way.

        Args:
            image_id: the image's id.
            holders: the descriptions of the sites that have it, nearest first.

        Raises:
            Disagreement: the sites describe different images, or an image other than the one that this site has or is fetching.
            PullFailed: the image's data could not be fetched.
            BringFailed: Glance refuses the image.
            Unreachable: Glance does not answer.
            OSError: the partial file can't be written.
        """
        agree(IMAGE, image_id, holders)
        active = {site: body for site, body in holders.items() if body.get("status") == "active"}
        if not active:
            raise PullFailed(f"image {image_id}: no site has its data")
        image = SourceImage.described(next(iter(active.values())), least_visible(holders.values()))
        if image_id in self._pulls:
            self._check(image, "the copy that is on its way", self._pulls[image_id][0].image.description)
        else:
            pull = ImagePull(self._sites, image, list(active), self._directory, self._patience_s)
            task = asyncio.get_running_loop().create_task(self._bring(pull))
            self._pulls[image_id] = pull, task
            task.add_done_callback(lambda _: self._pulls.pop(image_id))
        # A transfer continues without the request that began it: other requests may wait for it, and the client will ask again.
        await asyncio.shield(self._pulls[image_id][1])

    def status(self) -> list[dict[str, Any]]:
        """Return the transfers that are under way, for JSON."""
        return [pull.status() for pull, _ in self._pulls.values()]

    async def stop(self) -> None:
        """Stop all transfers; the next start resumes them."""
        tasks = [task for _, task in self._pulls.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def forget_old(self, now: float) -> None:
        """Remove the partial files that no request has used for `FORGOTTEN_S`.

        Args:
            now: seconds since 1970.
        """
        for path in self._directory.glob("*"):
            if now - path.stat().st_mtime > FORGOTTEN_S:
                path.unlink()

    def _check(self, image: SourceImage, other: str, body: Mapping[str, Any]) -> None:
        if different := differences(IMAGE, image.description, body):
            why = f"{other} differs from what the other sites hold: {', '.join(different)}"
            self._conflicts.note(IMAGE, image.id, [self._sites.here], why)
            raise Disagreement(IMAGE, image.id, [self._sites.here], why)

    async def _bring(self, pull: ImagePull) -> None:
        began = time.monotonic()
        image, partial = pull.image, pull.begin()
        before = partial.have
        giving = asyncio.get_running_loop().create_task(self._give(image, pull))
        try:
            await pull.fill()
            fetched = time.monotonic()
            self.rates.note(pull.source, partial.have - before, fetched - began)
            (failure,) = await asyncio.gather(giving, return_exceptions=True)
            if failure is not None:
                LOG.info("image %s could not be stored while it arrived: %s", image.id, failure)
                await self._give(image, pull)
        finally:
            giving.cancel()
            await asyncio.gather(giving, return_exceptions=True)
            partial.close()
        partial.remove()
        stored = time.monotonic()
        LOG.info("image %s: %d bytes, fetched in %.1f s, stored %.1f s later", image.id, image.size, fetched - began, stored - fetched)

    async def _give(self, image: SourceImage, pull: ImagePull) -> None:
        """Upload the data to Glance while it arrives, unless Glance has the image; complete an image that an earlier attempt began.

        An image that Glance has under this id must be the same one with the same owner: it may have been created since the holders were
        asked. Glance drops the data of an upload that is not completed.
        """
        await pull.half()
        token = await self._sites.own_token("image")
        client = ServiceClient(self._sites, token, f"req-{image.id}")
        target = f"/v2/images/{segment(image.id)}"
        there = await client.get(self._sites.here, "image", target)
        if there is not None:
            self._check(image, f"the image at {self._sites.here}", there)
            if there["status"] == "active":
                return
        else:
            await client.make("POST", "image", "/v2/images", _chosen(image.description))
            self._ledger.bring(IMAGE, image.id, pull.source)
        call = client.call("PUT", "image", f"{target}/file", token)
        call.headers["Content-Type"] = "application/octet-stream"
        sent = call.with_(body=pull.chunks())
        sent.headers["Content-Length"] = str(image.size)
        reply = await self._sites.send(self._sites.here, sent, _GIVE_S)
        if not reply.ok:
            raise BringFailed(f"PUT {target}/file: {reply.status} {reply.body[:500].decode(errors='replace')}")


def _chosen(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields for the creation of a copy of an image, with its owner's properties but without those of Glance's own tasks."""
    return {
        name: value for name, value in description.items() if name not in _OWN and value is not None and not name.startswith("os_glance")
    }

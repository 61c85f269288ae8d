"""Brings images: fetches their data once, however many ask for it, and gives it to this site's Glance under the same id."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atoll.gateway.bring.asking import Asker, Failed
from atoll.gateway.bring.holders import Holders
from atoll.gateway.bring.ledger import Ledger
from atoll.gateway.bring.pull import Image, Pull, PullFailed
from atoll.gateway.bring.references import IMAGE
from atoll.gateway.bring.things import Disagreement, agree, differences, least_visible
from atoll.gateway.copies.conflicts import Conflicts
from atoll.gateway.request.paths import segment
from atoll.gateway.sites import Sites

LOG = logging.getLogger(__name__)

PATIENCE_S = 60.0
"""A client's wish fails after so many seconds without any progress. The next wish goes on where this one stopped."""

FORGOTTEN_S = 7 * 86400
"""A partial file that nobody has asked for since is removed."""

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
"""What Glance says of itself."""


class Images:
    """The images that are on their way to this site.

    Args:
        sites: to ask.
        directory: for partial files.
        patience_s: see `PATIENCE_S`.
        ledger: where it is noted which images were brought; without it, in memory.
        conflicts: where disagreements are noted; without it, in memory.

    Attributes:
        holders: asks which sites hold an image.
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
        self._directory = directory
        self._patience_s = patience_s
        self._pulls: dict[str, tuple[Pull, asyncio.Task[None]]] = {}

    async def pull(self, image_id: str, holders: Mapping[str, Mapping[str, Any]]) -> None:
        """Have an image here. Who asks for one that is on its way waits for it.

        Args:
            image_id: its id.
            holders: the descriptions of the sites that have it, nearest first.

        Raises:
            Disagreement: they don't describe the same image, or not the one that is here or on its way.
            PullFailed: it could not be fetched.
            Failed: Glance does not take it.
            Unreachable: Glance does not answer.
            OSError: it can't be written.
        """
        agree(IMAGE, image_id, holders)
        active = {site: body for site, body in holders.items() if body.get("status") == "active"}
        if not active:
            raise PullFailed(f"image {image_id}: no site has its data")
        image = Image.described(next(iter(active.values())), least_visible(holders.values()))
        if image_id in self._pulls:
            self._check(image, "the copy that is on its way", self._pulls[image_id][0].image.description)
        else:
            pull = Pull(self._sites, image, list(active), self._directory, self._patience_s)
            task = asyncio.get_running_loop().create_task(self._bring(pull))
            self._pulls[image_id] = pull, task
            task.add_done_callback(lambda _: self._pulls.pop(image_id))
        # One that is no longer wanted goes on for the others; and who wanted it will ask again.
        await asyncio.shield(self._pulls[image_id][1])

    def status(self) -> list[dict[str, Any]]:
        """What is on its way, for JSON."""
        return [pull.status() for pull, _ in self._pulls.values()]

    async def stop(self) -> None:
        """Leave all for the next start."""
        tasks = [task for _, task in self._pulls.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def forget_old(self, now: float) -> None:
        """Remove partial files that nobody has asked for in a long time.

        Args:
            now: seconds since 1970.
        """
        for path in self._directory.glob("*"):
            if now - path.stat().st_mtime > FORGOTTEN_S:
                path.unlink()

    def _check(self, image: Image, other: str, body: Mapping[str, Any]) -> None:
        if different := differences(IMAGE, image.description, body):
            why = f"{other} differs from what the other sites hold: {', '.join(different)}"
            self._conflicts.note(IMAGE, image.id, [self._sites.here], why)
            raise Disagreement(IMAGE, image.id, [self._sites.here], why)

    async def _bring(self, pull: Pull) -> None:
        began = time.monotonic()
        image, partial = pull.image, pull.begin()
        giving = asyncio.get_running_loop().create_task(self._give(image, pull))
        try:
            await pull.fill()
            fetched = time.monotonic()
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

    async def _give(self, image: Image, pull: Pull) -> None:
        """Give the data to Glance as it arrives, unless it has the image; what an earlier attempt has left is completed.

        An image that is here under the id has to be the same one, with the same owner: it may have been made since the holders were asked.

        Glance forgets what was given to it when it does not get all.
        """
        await pull.half()
        token = await self._sites.own_token("image")
        asker = Asker(self._sites, token, f"req-{image.id}")
        target = f"/v2/images/{segment(image.id)}"
        there = await asker.get(self._sites.here, "image", target)
        if there is not None:
            self._check(image, f"the image at {self._sites.here}", there)
            if there["status"] == "active":
                return
        else:
            await asker.make("POST", "image", "/v2/images", _chosen(image.description))
            self._ledger.bring(IMAGE, image.id, pull.source)
        call = asker.call("PUT", "image", f"{target}/file", token)
        call.headers["Content-Type"] = "application/octet-stream"
        sent = call.with_(body=pull.chunks())
        sent.headers["Content-Length"] = str(image.size)
        reply = await self._sites.send(self._sites.here, sent, _GIVE_S)
        if not reply.ok:
            raise Failed(f"PUT {target}/file: {reply.status} {reply.body[:500].decode(errors='replace')}")


def _chosen(description: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of an image when it is made: its owner's properties too, but not what Glance's tasks note for themselves."""
    return {
        name: value for name, value in description.items() if name not in _OWN and value is not None and not name.startswith("os_glance")
    }

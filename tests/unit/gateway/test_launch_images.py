"""Launch images of other sites: who gets one, who does not learn of it, and when the base is brought instead."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from bring_sites import Sites, running
from test_overlay_bases import DATA, DIGEST, Gateway, Glance

from atoll.gateway.bring.link_rates import ASSUMED, LEAST_BYTES, LinkRates
from atoll.gateway.bring.trust import MemberTrust
from atoll.gateway.overlays import LaunchImages, OverlayBases
from atoll.gateway.overlays.bases import data_hash
from atoll.gateway.request.call import Reply
from atoll.identifiers import cached_base, cached_launch

KEY, OTHER = "ed25519:" + "1" * 64, "p256:02" + "2" * 64
DISK = b"d" * 5000


class Cloud:
    """A site that makes a server, and two others, each with a cache of launch images."""

    def __init__(self, sites: list[Glance], views: list[Sites], directory: Path, trust: MemberTrust) -> None:
        self.here, self.lyon, self.nice = sites
        self.view = views[0]
        self.caches = {site.name: directory / f"cache-{site.name}" for site in sites}
        self.launches = [LaunchImages(view, self.caches[view.here]) for view in views]
        self.gateway = Gateway(sites, views, trust)
        assert self.here.bringer is not None
        self.gateway.bases = OverlayBases(views[0], self.here.bringer, self.launches[0], trust)

    def share(self, overlay: str, *sites: Glance) -> None:
        for site in sites:
            site.images[overlay], site.data[overlay] = self.here.images[overlay], self.here.data[overlay]

    def keep(self, site: Glance, overlay: str, base: str, key: str = KEY, disk: bytes = DISK) -> Path:
        """Put a launch image into a site's cache, as nova-compute does."""
        images = site.images
        name = cached_launch(cached_base(data_hash(images[base]), DIGEST, ""), data_hash(images[overlay]), key)
        (self.caches[site.name] / name).mkdir(parents=True)
        (self.caches[site.name] / name / "disk").write_bytes(disk)
        return self.caches[site.name] / name

    async def ask(self, overlay: str, *keys: str, token: str = "ours", body: bytes | None = None) -> Any:
        said = body if body is not None else json.dumps({"keys": keys or [KEY]}).encode()
        return await self.gateway.ask(overlay, token=token, body=said, path=f"/cloudlet/v1/overlays/{overlay}/launch-image")

    async def fetched(self, overlay: str, *keys: str, token: str = "ours") -> tuple[bytes, dict[str, str]]:
        answer = await self.ask(overlay, *keys, token=token)
        assert answer.status == 200, answer.json()
        return (await answer.read()).body, dict(answer.headers)

    async def refused(self, overlay: str, *keys: str, **more: Any) -> tuple[int, str]:
        answer = await self.ask(overlay, *keys, **more)
        assert isinstance(answer, Reply)
        return answer.status, answer.json()["error"]["message"]


NONE = (404, "no site sends the launch image sooner than the overlay's base arrives")


def run(directory: Path, trial: Callable[[Cloud], Awaitable[None]], trust: MemberTrust | None = None) -> None:
    async def main() -> None:
        sites = [Glance(name) for name in ("here", "lyon", "nice")]
        clouds: list[Cloud] = []

        def attach(views: list[Sites]) -> None:
            clouds.append(Cloud(sites, views, directory, trust or MemberTrust()))
            for site, launches in zip(sites, clouds[0].launches, strict=True):
                launches.attach(site.application)

        async with running(*sites, data=directory, attach=attach):
            try:
                await trial(clouds[0])
            finally:
                await clouds[0].gateway.bases.stop()
                for site in sites:
                    await site.bringer.stop()

    asyncio.run(main())


def test_launch_image_is_sent_if_it_is_smaller_than_the_base(tmp_path):
    async def trial(cloud: Cloud) -> None:
        overlay, base = cloud.here.overlay(), cloud.lyon.base(b"base" * 500_000)
        cloud.share(overlay, cloud.lyon, cloud.nice)
        cloud.keep(cloud.lyon, overlay, base)
        data, headers = await cloud.fetched(overlay, OTHER, KEY)
        assert len(data) > 32
        assert (headers["X-Atoll-Key"], headers["X-Atoll-Size"]) == (KEY, "8192")
        assert float(headers["X-Atoll-Expected-Seconds"]) < 1
        assert await cloud.refused(overlay, OTHER) == NONE, "the other key has signed nothing"
        assert base not in cloud.here.images, "the base stays where it is"

    run(tmp_path, trial)


def test_base_is_preferred_if_it_is_sooner_here(tmp_path):
    async def trial(cloud: Cloud) -> None:
        overlay, base = cloud.here.overlay(), cloud.lyon.base()
        cloud.share(overlay, cloud.lyon, cloud.nice)
        cloud.keep(cloud.lyon, overlay, base)
        assert len(DATA) < 8192
        assert await cloud.refused(overlay) == NONE
        cloud.lyon.images[base]["size"] = cloud.nice.images[cloud.nice.base()]["size"] = 10_000_000
        rates = cloud.here.bringer.images.rates
        rates.note("lyon", 10 * LEAST_BYTES, 10_000_000)
        assert await cloud.refused(overlay) == NONE, "the base comes over a link that is much faster"
        rates.note("nice", LEAST_BYTES, 10_000_000_000)
        for _ in range(50):
            rates.note("lyon", 10 * LEAST_BYTES, 1)
        assert (await cloud.fetched(overlay))[0]
        cloud.here.base()
        assert await cloud.refused(overlay) == (404, "the overlay's base is at this site")

    run(tmp_path, trial)


def test_user_without_a_right_to_both_images_learns_nothing_and_gets_nothing(tmp_path):
    async def trial(cloud: Cloud) -> None:
        overlay = cloud.here.overlay(owner="theirs", visibility="public")
        base = cloud.lyon.base(b"base" * 500_000, owner="theirs")
        public = cloud.nice.base(b"base" * 600_000, owner="x", visibility="public")
        cloud.share(overlay, cloud.lyon, cloud.nice)
        kept = cloud.keep(cloud.lyon, overlay, base)
        with_image = await cloud.refused(overlay)
        assert (await cloud.fetched(overlay, token="theirs"))[0]
        kept.rename(kept.with_name("gone"))
        assert with_image == await cloud.refused(overlay) == NONE
        kept.with_name("gone").rename(kept)
        # Straight at the peer port, as a member site with the attacker's token would ask.
        view = cloud.view
        for token, status in (("ours", 404), ("junk", 404), ("", 404), ("theirs", 200)):
            for more in ("", "/data"):
                url = f"{view.urls['lyon']}/atoll/launch-images/{overlay}{more}?keys={KEY}"
                async with view.session.get(url, headers={"X-Auth-Token": token}) as answer:
                    assert (answer.status, more) == (status, more)
        # An image of the attacker's own with the base's digest leads to another name.
        cloud.lyon.base(b"mine" * 500_000, owner="ours")
        assert await cloud.refused(overlay) == NONE
        assert public not in cloud.here.images

    run(tmp_path, trial)


def test_overlay_that_the_holder_does_not_show_to_the_user_leads_to_nothing(tmp_path):
    """The id of an overlay gives no right: at the holder, another project's image may have it."""

    async def trial(cloud: Cloud) -> None:
        overlay, base = cloud.here.overlay(), cloud.lyon.base(b"base" * 500_000)
        assert await cloud.refused(overlay) == NONE
        cloud.lyon.images[overlay] = {**cloud.here.images[overlay], "owner": "theirs"}
        cloud.keep(cloud.lyon, overlay, base)
        assert await cloud.refused(overlay) == NONE
        secret = cloud.here.overlay(owner="theirs")
        assert (await cloud.refused(secret))[0] == 404
        assert (await cloud.refused(overlay, token=""))[0] == 401

    run(tmp_path, trial)


def test_malformed_questions(tmp_path):
    async def trial(cloud: Cloud) -> None:
        overlay = cloud.here.overlay()
        for body in (b"", b"[]", b"{}", b'{"keys": []}', b'{"keys": "x"}', b'{"keys": ["../x"]}', b'{"keys": [1]}', b"[" * 4000):
            assert (await cloud.refused(overlay, body=body))[0] == 400, body
        many = json.dumps({"keys": [KEY] * 9}).encode()
        assert (await cloud.refused(overlay, body=many))[0] == 400
        for path in ("x", f"{overlay}%2f..", "../" + overlay):
            async with cloud.view.session.get(f"{cloud.view.urls['lyon']}/atoll/launch-images/{path}?keys={KEY}") as answer:
                assert answer.status == 404

    run(tmp_path, trial)


@pytest.mark.parametrize("said", [b"[1]", b"{", b'{"key": "x", "size": 1}', b'{"key": "%s", "size": -1}', b'{"key": "%s", "size": "1"}'])
def test_malformed_offer_is_none(tmp_path, said):
    async def trial(cloud: Cloud) -> None:
        overlay, base = cloud.here.overlay(), cloud.nice.base(b"base" * 500_000)
        cloud.share(overlay, cloud.nice)
        body = said.replace(b"%s", KEY.encode())

        async def lie(request: web.Request) -> web.Response | None:
            return web.Response(body=body) if "/launch-images/" in request.path else None

        cloud.lyon.fault = lie
        assert await cloud.refused(overlay) == NONE
        cloud.keep(cloud.nice, overlay, base)
        assert (await cloud.fetched(overlay))[1]["X-Atoll-Key"] == KEY

    run(tmp_path, trial)


def test_image_that_is_lost_before_it_is_sent(tmp_path):
    async def trial(cloud: Cloud) -> None:
        overlay, base = cloud.here.overlay(), cloud.lyon.base(b"base" * 500_000)
        cloud.share(overlay, cloud.lyon)
        cloud.keep(cloud.lyon, overlay, base)

        async def lose(request: web.Request) -> web.Response | None:
            return web.Response(status=404) if request.path.endswith("/data") else None

        cloud.lyon.fault = lose
        assert await cloud.refused(overlay) == (503, "site lyon: it does not send the launch image (HTTP 404)")

    run(tmp_path, trial)


def test_rates_follow_the_transfers():
    rates = LinkRates(lambda _site: 100.0)
    assert rates.seconds("lyon", int(ASSUMED)) == pytest.approx(1.1)
    rates.note("lyon", LEAST_BYTES - 1, 1)
    rates.note("lyon", LEAST_BYTES, 0)
    assert rates.seconds("lyon", int(ASSUMED)) == pytest.approx(1.1)
    rates.note("lyon", 2_000_000, 1)
    assert rates.seconds("lyon", 2_000_000) == pytest.approx(1.1)
    rates.note("lyon", 4_000_000, 1)
    assert rates.seconds("lyon", 3_000_000) == pytest.approx(1.1)

"""Equal ids are not proof: the descriptions that sites give of one id must agree before anything is brought or shared."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from bring_sites import Site, running

from atoll.gateway.bring import Bringer
from atoll.gateway.bring.descriptions import Disagreement, agree, differences, least_visible
from atoll.gateway.bring.images import ImageTransfers
from atoll.gateway.bring.references import FLAVOR, IMAGE, NETWORK, Reference
from atoll.gateway.bring.service_client import BringRefused
from atoll.gateway.copies.conflicts import Conflicts

DATA, OTHER = b"ubuntu" * 1000, b"backdoor" * 1000


@pytest.mark.parametrize(
    ("kind", "one", "other", "different"),
    [
        (IMAGE, {"owner": "a", "os_hash_value": "1"}, {"owner": "b", "os_hash_value": "1"}, ["owner"]),
        (IMAGE, {"owner": "a", "os_hash_value": "1"}, {"owner": "a", "os_hash_value": "2"}, ["os_hash_value"]),
        (IMAGE, {"owner": "a", "os_hash_value": "1"}, {"owner": "a", "os_hash_value": None}, []),
        (IMAGE, {"owner": "a", "name": "x", "visibility": "public"}, {"owner": "a", "name": "y", "visibility": "private"}, []),
        (FLAVOR, {"name": "a", "swap": ""}, {"name": "a", "swap": 0}, []),
        (FLAVOR, {"name": "a", "ram": 1}, {"name": "a", "ram": 2}, ["ram"]),
        (NETWORK, {"project_id": "a"}, {"project_id": "b"}, ["project_id"]),
    ],
)
def test_differences(kind: str, one: dict[str, Any], other: dict[str, Any], different: list[str]):
    assert differences(kind, one, other) == different


def test_any_two_sites_may_disagree():
    bodies = {"paris": {"owner": None}, "lyon": {"owner": "a"}, "nice": {"owner": "b"}}
    with pytest.raises(Disagreement, match="lyon and nice hold different resources under this id: they differ in owner"):
        agree(IMAGE, "i", bodies)


@pytest.mark.parametrize(
    ("said", "least"),
    [(["public", "shared"], "shared"), (["private", "public"], "private"), (["community"], "community"), (["x", "private"], "x")],
)
def test_the_copy_of_an_image_is_shown_to_no_more_than_the_most_cautious_site_shows_it_to(said: list[str], least: str):
    assert least_visible([{"visibility": each} for each in said]) == least


def trial(tmp_path: Path, act: Callable[[list[Site], Bringer], Awaitable[None]]) -> None:
    async def main() -> None:
        sites = [Site(name) for name in ("here", "mallory", "lyon")]
        async with running(*sites) as views:
            with closing(Bringer(views[0], tmp_path, sites[0].conflicts)) as bringer:
                await act(sites, bringer)

    asyncio.run(main())


def squat(site: Site, image: str, data: bytes, **more: Any) -> None:
    """Put another image under the same id."""
    hashed = {"size": len(data), "os_hash_value": hashlib.sha512(data).hexdigest()}
    site.images[image] = {**site.images[site.add_image(data)], "id": image, **hashed, **more}
    site.data[image] = data


@pytest.mark.parametrize("owner", ["cloud", "mallory"])
def test_nearest_holder_does_not_decide_what_an_image_is(tmp_path: Path, owner: str):
    async def act(sites: list[Site], bringer: Bringer) -> None:
        here, mallory, lyon = sites
        image = lyon.add_image(DATA, owner="cloud", visibility="public")
        squat(mallory, image, OTHER, owner=owner, visibility="community")
        with pytest.raises(BringRefused):
            await bringer.bring([Reference(IMAGE, image)], "user")
        assert (here.images, here.data) == ({}, {})
        (conflict,) = here.conflicts.list()
        assert (conflict["id"], conflict["sites"]) == (image, ["lyon", "mallory"])

    trial(tmp_path, act)


def test_user_does_not_see_what_the_gateways_see(tmp_path: Path):
    """Another project's private image has the id at a site: its holder shows it to gateways alone."""

    async def act(sites: list[Site], bringer: Bringer) -> None:
        here, mallory, lyon = sites
        image = lyon.add_image(DATA, owner="victim")
        squat(mallory, image, OTHER, owner="ours")

        async def hidden(request: Any) -> Any:
            from aiohttp import web

            return web.Response(status=404) if request.headers.get("X-Auth-Token") == "user" else None

        lyon.fault = hidden
        with pytest.raises(BringRefused):
            await bringer.bring([Reference(IMAGE, image)], "user")
        assert here.data == {}
        assert here.conflicts.list()[0]["sites"] == ["lyon", "mallory"]

    trial(tmp_path, act)


def test_copy_that_is_here_under_the_id_and_is_another_image_is_not_filled(tmp_path: Path):
    async def main() -> None:
        here, lyon = Site("here"), Site("lyon")
        image = lyon.add_image(DATA, owner="ours")
        here.images[image] = {"id": image, "status": "queued", "owner": "theirs"}
        async with running(here, lyon) as views:
            with pytest.raises(Disagreement):
                await ImageTransfers(views[0], tmp_path, conflicts=here.conflicts).pull(image, {"lyon": lyon.images[image]})
        assert here.data == {}
        assert "differs from what the other sites hold: owner" in here.conflicts.list()[0]["why"]

    asyncio.run(main())


def test_disagreement_is_forgotten_when_the_sites_agree(tmp_path: Path):
    async def act(sites: list[Site], bringer: Bringer) -> None:
        here, mallory, lyon = sites
        image = lyon.add_image(DATA)
        squat(mallory, image, OTHER)
        with pytest.raises(BringRefused):
            await bringer.bring([Reference(IMAGE, image)], "user")
        del mallory.images[image]
        assert await bringer.bring([Reference(IMAGE, image)], "user") is not None
        assert (here.data[image], here.conflicts.list()) == (DATA, [])

    trial(tmp_path, act)


def test_conflicts_are_kept_and_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    kept = Conflicts(tmp_path / "conflicts.db", lambda: 0.0)
    for _ in range(3):
        kept.note("image", "i", ["nice", "lyon"], "they differ in owner")
    kept.close()
    again = Conflicts(tmp_path / "conflicts.db", lambda: 0.0)
    assert again.list() == [
        {"kind": "image", "id": "i", "sites": ["lyon", "nice"], "why": "they differ in owner", "since": "1970-01-01T00:00:00+00:00"}
    ]
    assert caplog.text.count("they differ in owner") == 1
    again.resolve("image", "i")
    assert again.list() == []
    again.close()


def test_conflicts_do_not_grow_without_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("atoll.gateway.copies.conflicts.MAX_CONFLICTS", 3)
    times = iter(range(100))
    kept = Conflicts(now=lambda: next(times))
    for number in range(9):
        kept.note("image", str(number), ["paris"], "why")
    assert [each["id"] for each in kept.list()] == ["6", "7", "8"]
    kept.close()


def test_view_of_a_site_that_is_not_asked_by_a_user(tmp_path: Path):
    """Gateways tell each other whether a resource is native, and what its owner grants to a project."""

    async def main() -> None:
        here, lyon = Site("here"), Site("lyon")
        image = lyon.add_image(DATA, owner="theirs", visibility="shared")
        lyon.members[image] = {"ours"}
        async with running(here, lyon) as views:
            holders = ImageTransfers(views[0], tmp_path).holders
            (granted,), (stranger,) = await holders.elsewhere(IMAGE, image, "ours"), await holders.elsewhere(IMAGE, image, "nobody")
            assert (granted.site, granted.native, granted.granted, stranger.granted) == ("lyon", True, ("use",), ())
            assert [(loan.project, loan.borrower) for loan in lyon.ledger.loans()] == [("ours", "here")]
            lyon.ledger.bring(IMAGE, image, "nice")
            assert [each.native for each in await holders.elsewhere(IMAGE, image)] == [False]

    asyncio.run(main())

"""Images that sites keep by policy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bring_sites import Site, running
from multidict import CIMultiDict
from replica_sites import Notes

from atoll.gateway.bring import Keeper
from atoll.gateway.bring.images import ImageTransfers
from atoll.gateway.bring.keeper import KIND, wanted
from atoll.gateway.request.call import Call, Reply
from atoll.mesh.record import Change

IMAGE = "0b3bd3b3-6a54-4f7e-9d3c-0d2d1c0e9a11"


class Document(Notes):
    """One site's view of the document, with the fields of all records."""

    @property
    def fields(self) -> dict[str, dict[str, Any]]:
        return {key: dict(record.fields) for (_kind, key), record in self._records.items()}


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ("everywhere", True),
        ("paris, lyon", True),
        ("lyon", True),
        ("paris", False),
        ("pull", False),
        ("", False),
        (None, False),
        (3, False),
    ],
)
def test_policies(keep: object, expected: bool):
    assert wanted(keep, "lyon") is expected


def answered(
    method: str, path: str, status: int, image: dict[str, Any] | None = None, service: str = "image", *, owner: str = ""
) -> tuple[Call, Reply]:
    call = Call(method, service, path, "", CIMultiDict(), b"{}", "req-1")
    identity = {"owner": owner} if owner else {}
    return call, Reply(status, CIMultiDict(), json.dumps(image).encode() if image else b"", "lyon", identity)


async def idle(keeping: Keeper) -> None:
    """Wait until a keeper has done its work, and waits for more."""
    async with asyncio.timeout(10):
        while keeping._wake.is_set() or not keeping._wake._waiters:
            await asyncio.sleep(0.01)


def keeper(document: Document) -> Keeper:
    return Keeper(None, document, None)


def test_policy_is_noted_as_it_goes_by():
    async def main() -> None:
        document = Document()
        noting = keeper(document)
        noting.note(*answered("POST", "/v2/images", 201, {"id": IMAGE, "owner": "ours", "atoll_keep": "everywhere"}))
        assert document.fields == {IMAGE: {"keep": "everywhere", "owner": "ours", "present": True}}
        noting.note(*answered("PATCH", f"/v2/images/{IMAGE}", 200, {"id": IMAGE, "owner": "ours", "atoll_keep": "paris"}))
        assert document.fields[IMAGE]["keep"] == "paris"
        noting.note(*answered("PATCH", f"/v2/images/{IMAGE}", 200, {"id": IMAGE, "owner": "ours"}))
        assert document.fields[IMAGE]["keep"] == "pull"
        noting.note(*answered("DELETE", f"/v2/images/{IMAGE}", 204, owner="ours"))
        assert document.fields[IMAGE]["present"] is False
        noting.note(*answered("POST", "/v2/images", 201, {"id": IMAGE, "owner": "theirs", "atoll_keep": "nice"}))
        assert document.fields[IMAGE] == {"keep": "nice", "owner": "theirs", "present": True}

    asyncio.run(main())


def test_policy_of_another_project_under_the_same_id_changes_nothing():
    async def main() -> None:
        document = Document()
        noting = keeper(document)
        noting.note(*answered("POST", "/v2/images", 201, {"id": IMAGE, "owner": "ours", "atoll_keep": "everywhere"}))
        before = dict(document.fields[IMAGE])
        noting.note(*answered("POST", "/v2/images", 201, {"id": IMAGE, "owner": "theirs", "atoll_keep": "nice"}))
        noting.note(*answered("PATCH", f"/v2/images/{IMAGE}", 200, {"id": IMAGE, "owner": "theirs"}))
        noting.note(*answered("DELETE", f"/v2/images/{IMAGE}", 204, owner="theirs"))
        noting.note(*answered("DELETE", f"/v2/images/{IMAGE}", 204))
        assert document.fields[IMAGE] == before

    asyncio.run(main())


@pytest.mark.parametrize(
    "what",
    [
        answered("POST", "/v2/images", 201, {"id": IMAGE}),
        answered("POST", "/v2/images", 409, {"id": IMAGE, "atoll_keep": "everywhere"}),
        answered("GET", f"/v2/images/{IMAGE}", 200, {"id": IMAGE, "atoll_keep": "everywhere"}),
        answered("POST", f"/v2/images/{IMAGE}/members", 200, {"id": IMAGE, "atoll_keep": "everywhere"}),
        answered("POST", "/v2/images", 201, {"id": IMAGE, "atoll_keep": "everywhere"}, service="compute"),
        answered("DELETE", f"/v2/images/{IMAGE}", 204),
    ],
)
def test_all_else_is_of_no_interest(what: tuple[Call, Reply]):
    async def main() -> None:
        document = Document()
        keeper(document).note(*what)
        assert document.fields == {}

    asyncio.run(main())


def test_an_image_to_keep_is_pulled_from_any_site_that_has_it(tmp_path: Path):
    async def main() -> None:
        here, empty, lyon = Site("here"), Site("empty"), Site("lyon")
        async with running(here, empty, lyon) as views:
            document = Document()
            kept, other = lyon.add_image(b"kept" * 1000, atoll_keep="lyon,here"), lyon.add_image(b"other")
            keeping = Keeper(views[0], document, ImageTransfers(views[0], tmp_path))
            task = asyncio.create_task(keeping.run())
            await asyncio.sleep(0)
            document.write(
                [Change(KIND, kept, {"keep": "lyon,here", "present": True}), Change(KIND, other, {"keep": "lyon", "present": True})]
            )
            async with asyncio.timeout(10):
                while here.images.get(kept, {}).get("status") != "active":
                    await asyncio.sleep(0.01)
            assert here.data == {kept: b"kept" * 1000}
            # Once the image is here, no site is asked again.
            views[0].asked.clear()
            keeping.wake()
            await idle(keeping)
            assert views[0].asked == []
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())


def test_site_that_comes_back_with_it_is_asked_again(tmp_path: Path):
    async def main() -> None:
        here, lyon = Site("here"), Site("lyon")
        async with running(here, lyon) as views:
            document = Document()
            document.write([Change(KIND, IMAGE, {"keep": "everywhere", "present": True})])
            keeping = Keeper(views[0], document, ImageTransfers(views[0], tmp_path))
            task = asyncio.create_task(keeping.run())
            await asyncio.sleep(0)
            await idle(keeping)
            assert here.images == {}
            lyon.images[IMAGE] = {**lyon.images[lyon.add_image(b"late", atoll_keep="everywhere")], "id": IMAGE}
            lyon.data[IMAGE] = b"late"
            keeping.wake()
            async with asyncio.timeout(10):
                while here.images.get(IMAGE, {}).get("status") != "active":
                    await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())


def keeping(tmp_path: Path, arrange: Callable[[Site, Site, Document], str], expected: Callable[[Site, str], bool]) -> Site:
    """Have a keeper follow the images and records that `arrange` makes; return this site when the keeper has no more to do."""
    here, lyon = Site("here"), Site("lyon")

    async def main() -> None:
        document = Document()
        image = arrange(here, lyon, document)
        async with running(here, lyon) as views:
            images = ImageTransfers(views[0], tmp_path, conflicts=here.conflicts)
            keeper = Keeper(views[0], document, images)
            task = asyncio.create_task(keeper.run())
            async with asyncio.timeout(10):
                while not expected(here, image):
                    await asyncio.sleep(0.01)
            await idle(keeper)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    return here


def test_another_projects_data_are_not_put_into_an_image_that_has_the_id(tmp_path: Path):
    """A user creates an image under another project's id at another site, and asks for its data."""

    def arrange(here: Site, lyon: Site, document: Document) -> str:
        image = lyon.add_image(b"secret" * 1000, owner="victim", atoll_keep="here")
        here.images[image] = {"id": image, "status": "queued", "owner": "attacker", "atoll_keep": "here"}
        document.write([Change(KIND, image, {"keep": "here", "owner": "attacker", "present": True})])
        return image

    here = keeping(tmp_path, arrange, lambda here, _image: bool(here.conflicts.list()))
    assert here.data == {}
    (conflict,) = here.conflicts.list()
    assert (conflict["kind"], conflict["sites"]) == ("image", ["here", "lyon"])
    assert "differ in owner" in conflict["why"]


def test_record_that_the_image_contradicts_has_nothing_pulled(tmp_path: Path):
    """The property is the owner's; any member site may have written the record."""

    def arrange(_here: Site, lyon: Site, document: Document) -> str:
        image, kept = lyon.add_image(b"secret" * 1000), lyon.add_image(b"kept", atoll_keep="here")
        document.write([Change(KIND, each, {"keep": "here", "owner": "ours", "present": True}) for each in (image, "../../x", kept)])
        return kept

    here = keeping(tmp_path, arrange, lambda here, kept: kept in here.data)
    assert list(here.data.values()) == [b"kept"]


def test_record_with_another_owner_has_nothing_pulled(tmp_path: Path):
    def arrange(_here: Site, lyon: Site, document: Document) -> str:
        image, kept = lyon.add_image(b"secret" * 1000, atoll_keep="here"), lyon.add_image(b"kept", atoll_keep="here")
        document.write([Change(KIND, image, {"keep": "here", "owner": "attacker", "present": True})])
        document.write([Change(KIND, kept, {"keep": "here", "present": True})])  # of an earlier version
        return kept

    here = keeping(tmp_path, arrange, lambda here, kept: kept in here.data)
    assert list(here.data.values()) == [b"kept"]

"""Images that are kept at sites, by policy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bring_sites import Site, running
from multidict import CIMultiDict

from atoll.gateway.bring import Keeper
from atoll.gateway.bring.images import Images
from atoll.gateway.bring.keeper import KIND, wanted
from atoll.gateway.call import Call, Reply
from atoll.mesh.record import Change, Record

IMAGE = "0b3bd3b3-6a54-4f7e-9d3c-0d2d1c0e9a11"


class Document:
    """One site's view of what all know."""

    def __init__(self) -> None:
        self.fields: dict[str, dict[str, Any]] = {}
        self.told: list[Callable[[frozenset[tuple[str, str]]], None]] = []

    def write(self, changes: Iterable[Change]) -> None:
        for change in changes:
            assert change.kind == KIND
            self.fields.setdefault(change.key, {}).update(change.fields)
            for told in self.told:
                told(frozenset({(change.kind, change.key)}))

    def record(self, kind: str, key: str) -> Record | None:
        return Record(kind, key, self.fields[key], {}, {}) if key in self.fields else None

    def records(self, kind: str) -> Iterator[Record]:
        yield from (record for key in self.fields if (record := self.record(kind, key)) is not None and record.present)

    def on_change(self, callback: Callable[[frozenset[tuple[str, str]]], None]) -> None:
        self.told.append(callback)


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


def answered(method: str, path: str, status: int, image: dict[str, Any] | None = None, service: str = "image") -> tuple[Call, Reply]:
    call = Call(method, service, path, "", CIMultiDict(), b"{}", "req-1")
    return call, Reply(status, CIMultiDict(), json.dumps(image).encode() if image else b"", "lyon")


def keeper(document: Document) -> Keeper:
    return Keeper(None, document, None)  # type: ignore[arg-type] - neither is asked here


def test_policy_is_noted_as_it_goes_by():
    async def main() -> None:
        document = Document()
        noting = keeper(document)
        noting.note(*answered("POST", "/v2/images", 201, {"id": IMAGE, "atoll_keep": "everywhere"}))
        assert document.fields == {IMAGE: {"keep": "everywhere", "present": True}}
        noting.note(*answered("PATCH", f"/v2/images/{IMAGE}", 200, {"id": IMAGE, "atoll_keep": "paris"}))
        assert document.fields[IMAGE]["keep"] == "paris"
        noting.note(*answered("PATCH", f"/v2/images/{IMAGE}", 200, {"id": IMAGE}))
        assert document.fields[IMAGE]["keep"] == "pull"
        noting.note(*answered("DELETE", f"/v2/images/{IMAGE}", 204))
        assert document.fields[IMAGE]["present"] is False

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


def test_what_shall_be_kept_is_pulled_from_whoever_has_it(tmp_path: Path):
    async def main() -> None:
        here, empty, lyon = Site("here"), Site("empty"), Site("lyon")
        async with running(here, empty, lyon) as views:
            document = Document()
            kept, other = lyon.add_image(b"kept" * 1000), lyon.add_image(b"other")
            keeping = Keeper(views[0], document, Images(views[0], tmp_path))
            task = asyncio.create_task(keeping.run())
            await asyncio.sleep(0)
            document.write(
                [Change(KIND, kept, {"keep": "lyon,here", "present": True}), Change(KIND, other, {"keep": "lyon", "present": True})]
            )
            async with asyncio.timeout(10):
                while here.images.get(kept, {}).get("status") != "active":
                    await asyncio.sleep(0.01)
            assert here.data == {kept: b"kept" * 1000}
            # Once it is here, nobody is asked again.
            views[0].asked.clear()
            keeping.wake()
            await asyncio.sleep(0.05)
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
            keeping = Keeper(views[0], document, Images(views[0], tmp_path))
            task = asyncio.create_task(keeping.run())
            await asyncio.sleep(0.1)
            assert here.images == {}
            lyon.images[IMAGE] = {**lyon.images[lyon.add_image(b"late")], "id": IMAGE}
            lyon.data[IMAGE] = b"late"
            keeping.wake()
            async with asyncio.timeout(10):
                while here.images.get(IMAGE, {}).get("status") != "active":
                    await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())

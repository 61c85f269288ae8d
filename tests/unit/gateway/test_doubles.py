"""The doubles of these tests and the real things pass one suite.

For the services, the other half is `tests/across/test_service_contract.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from documents import Site as DocumentSite
from gateway_cloud import Cloud
from replica_sites import Notes
from service_contract import CONTRACT, Answered

from atoll.mesh.record import Change

KIND = "image_policy"


@pytest.mark.parametrize("promise", CONTRACT, ids=lambda each: each.__name__)
def test_small_services_keep_the_contract_of_the_real_ones(tmp_path: Path, promise: Any) -> None:
    async def main() -> None:
        async with Cloud(tmp_path, "paris", "lyon") as cloud:

            async def ask(service: str, method: str, path: str, body: Any) -> Answered:
                # A real catalogue has Nova's version in the URL of the service.
                path = f"/v2.1{path}" if service == "compute" else path
                status, answer, headers = await cloud.ask("paris", method, f"/{service}{path}", json=body, headers={"X-Auth-Token": "t"})
                return Answered(status, answer, {name.lower(): value for name, value in headers.items()})

            await promise(ask)

    asyncio.run(main())


@pytest.fixture(params=["real", "double"])
def document(request: pytest.FixtureRequest) -> Any:
    return Notes() if request.param == "double" else DocumentSite("paris").document


def write(document: Any, key: str, **fields: object) -> None:
    document.write([Change(KIND, key, fields)])


def test_document_has_what_was_written_last(document: Any) -> None:
    assert document.record(KIND, "i") is None
    write(document, "i", keep="paris", present=True)
    write(document, "i", keep="lyon")
    record = document.record(KIND, "i")
    assert (record.kind, record.key, record.present) == (KIND, "i", True)
    assert record.fields.items() >= {"keep": "lyon", "present": True}.items()


def test_document_lists_what_is_present(document: Any) -> None:
    for key in ("i", "j"):
        write(document, key, present=True)
    document.write([Change("replica", "other", {"present": True})])
    write(document, "i", present=False)
    assert [record.key for record in document.records(KIND)] == ["j"]
    assert document.record(KIND, "i").present is False


def test_document_tells_of_each_change(document: Any) -> None:
    told: list[frozenset[tuple[str, str]]] = []
    reader: Callable[[frozenset[tuple[str, str]]], None] = told.append
    document.on_change(reader)
    write(document, "i", present=True)
    assert told == [frozenset({(KIND, "i")})]

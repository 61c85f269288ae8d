"""Remnants in a site's databases and directories that no API shows: records of things that are gone, or were never made."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from atoll.bench.faults.view import View
from atoll.bench.faults.violation import Violation

_RECORDS = {
    "build_requests": "SELECT instance_uuid FROM build_requests",
    "instance_mappings": "SELECT instance_uuid FROM instance_mappings WHERE NOT queued_for_delete",
}
"""In Nova's API database, records of servers."""

COMING = ("saving", "uploading", "importing")
"""Statuses of images whose data are on their way."""


def remnants(data: Path, view: View) -> Iterator[Violation]:
    """All of them.

    Args:
        data: the site's directory of data.
        view: what it holds.
    """
    for table, query in _RECORDS.items():
        for server in _rows(data / "nova_api.db", query):
            if server not in view.servers:
                yield Violation("orphan", f"a row of {table} at {view.site} is of server {server}, which is not there")
    for server in _rows(data / "nova_api.db", _RECORDS["build_requests"]):
        if server in view.servers:
            yield Violation("unhealthy", f"server {server} at {view.site} waits to be built, and nobody builds it")
    for image, row in view.images.items():
        if row["status"] in COMING:
            yield Violation("unhealthy", f"image {row['name']} {image} at {view.site} is {row['status']}, and nobody sends its data")
    images = data / "images"
    for file in images.iterdir() if images.is_dir() else ():
        if file.is_file() and file.name not in view.images:
            yield Violation("orphan", f"file {file.name} at {view.site} is of no image")


def _rows(database: Path, query: str) -> list[str]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return [value for (value,) in connection.execute(query)]

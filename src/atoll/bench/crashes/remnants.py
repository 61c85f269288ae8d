"""Remnants of resources that no API shows: rows and files of resources that no longer exist, and images without data."""

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
"""Tables of Nova's API database with records of servers."""

WHOLE = ("active", "deactivated")
"""Statuses of images with data."""

COMING = ("saving", "uploading", "importing")
"""Statuses of images whose data are being uploaded."""


def remnants(data: Path, view: View) -> Iterator[Violation]:
    """Yield a violation for each remnant in a site's databases and directories.

    Args:
        data: the site's data directory.
        view: the contents of the site.
    """
    for table, query in _RECORDS.items():
        for server in _rows(data / "nova_api.db", query):
            if server not in view.servers:
                yield Violation("orphan", f"a row of {table} at {view.site} is of server {server}, which does not exist")
    for server in _rows(data / "nova_api.db", _RECORDS["build_requests"]):
        if server in view.servers:
            yield Violation("unhealthy", f"server {server} at {view.site} waits for a build that no process executes")
    yield from _of_images(data / "images", view)


def _of_images(directory: Path, view: View) -> Iterator[Violation]:
    for image, row in view.images.items():
        if row["status"] in COMING:
            yield Violation("unhealthy", f"image {row['name']} {image} at {view.site} is {row['status']}, but no process uploads its data")
        if row["status"] in WHOLE and not (directory / image).is_file():
            yield Violation("lost", f"image {row['name']} {image} at {view.site} is {row['status']}, but has no data")
    for file in directory.iterdir() if directory.is_dir() else ():
        if file.is_file() and file.name not in view.images:
            yield Violation("orphan", f"file {file.name} at {view.site} belongs to no image")


def _rows(database: Path, query: str) -> list[str]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return [value for (value,) in connection.execute(query)]

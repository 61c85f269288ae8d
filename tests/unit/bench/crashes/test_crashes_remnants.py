import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from atoll.bench.crashes.remnants import remnants
from atoll.bench.faults.view import View


@pytest.fixture
def data(tmp_path: Path) -> Path:
    with closing(sqlite3.connect(tmp_path / "nova_api.db")) as database:
        database.execute("CREATE TABLE build_requests (instance_uuid)")
        database.execute("CREATE TABLE instance_mappings (instance_uuid, queued_for_delete)")
        database.commit()
    (tmp_path / "images").mkdir()
    return tmp_path


def found(data: Path, **images: str) -> list[tuple[str, str]]:
    rows = {name: {"name": name, "status": status} for name, status in images.items()}
    return [(each.kind, each.what.partition(" at paris ")[2]) for each in remnants(data, View("paris", images=rows))]


def test_whole_images_are_not_remnants(data):
    (data / "images" / "coral").write_bytes(b"data")
    assert found(data, coral="active", anemone="queued") == []


@pytest.mark.parametrize("status", ["active", "deactivated"])
def test_image_that_is_listed_without_data_is_lost(data, status):
    assert found(data, coral=status) == [("lost", f"is {status}, but has no data")]


def test_upload_that_never_ends_and_data_without_an_image_are_found(data):
    (data / "images" / "kelp").write_bytes(b"data")
    assert found(data, coral="saving") == [("unhealthy", "is saving, but no process uploads its data"), ("orphan", "belongs to no image")]

"""Recovery of uploads, over Glance's real database layer on SQLite."""

import pytest
from upstream import inside

CUT_SHORT = """
    import tempfile
    from pathlib import Path
    from types import SimpleNamespace
    from glance import context
    from glance.common import config
    from glance.db.sqlalchemy import api, models
    from oslo_config import cfg
    from atoll.services.glance import recovery

    root = Path(tempfile.mkdtemp())
    for name in ("images", "staging"):
        (root / name).mkdir()
    config.set_config_defaults()
    from oslo_db import options
    options.set_defaults(cfg.CONF)
    cfg.CONF([], project="glance", default_config_files=[])
    cfg.CONF.set_override("connection", f"sqlite:///{root}/glance.db?plugin=atoll", "database")
    models.BASE.metadata.create_all(api.get_engine())
    admin = context.get_admin_context()

    def made(name, status, **more):
        id_ = f"00000000-0000-0000-0000-{len(images):012}"
        properties = {"kept": "yes", "os_glance_import_task": "t"}
        api.image_create(admin, {"id": id_, "name": name, "status": status, "owner": "o", "visibility": "private", "min_disk": 0,
                                 "min_ram": 0, "properties": properties, **more})
        for store in ("images", "staging"):
            (root / store / id_).write_bytes(b"half")
        return id_

    images = {}
    for status in ("queued", "saving", "uploading", "importing", "active", "deactivated", "killed"):
        images[status] = made(status, status, size=None if status in ("saving", "uploading", "importing") else 4, checksum="c")
    images["staged"] = made("staged", "uploading", size=4)
    images["imported"] = made("imported", "importing", size=4)
    images["shortened"] = made("shortened", "uploading", size=5)
    found = []
    for _start in range(2):
        recovery.recover(SimpleNamespace(data=root))
        result = {}
        for name, id_ in images.items():
            row = api.image_get(admin, id_)
            names = sorted(each["name"] for each in row["properties"] if not each["deleted"])
            files = [(root / store / id_).exists() for store in ("images", "staging")]
            result[name] = [row["status"], row["size"], row["checksum"], names, files]
        found.append(result)
    tell(found)
"""


@pytest.fixture(scope="module")
def found():
    return inside(CUT_SHORT)


@pytest.mark.parametrize("status", ["saving", "uploading", "importing"])
def test_an_image_whose_data_were_coming_waits_for_them_again(found, status):
    assert found[0][status] == ["queued", None, None, ["kept"], [False, False]]


@pytest.mark.parametrize("status", ["queued", "active", "deactivated", "killed"])
def test_other_images_are_left_alone(found, status):
    assert found[0][status] == [status, 4, "c", ["kept", "os_glance_import_task"], [True, True]]


@pytest.mark.parametrize("name", ["staged", "imported"])
def test_data_whose_staging_was_acknowledged_stay_staged(found, name):
    """Glance has answered 204, and has no other status for such an image than `uploading`; the client may request the import again."""
    assert found[0][name] == ["uploading", 4, None, ["kept"], [False, True]]


def test_data_that_are_not_what_was_staged_are_not_kept(found):
    assert found[0]["shortened"] == ["queued", None, None, ["kept"], [False, False]]


def test_a_second_start_finds_nothing_to_do(found):
    assert found[1] == found[0]

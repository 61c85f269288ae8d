"""A Glance that is killed while it deletes an image, over its real domain, database and file store on SQLite."""

import pytest
from upstream import inside

DELETE = """
    import os
    import tempfile
    from pathlib import Path
    from types import SimpleNamespace
    import glance_store
    from glance import context, gateway
    from glance.api.v2 import images
    from glance.common import config, store_utils
    from glance.db.sqlalchemy import api, models
    from oslo_config import cfg
    from atoll.services.glance import recovery
    from atoll.services.patches.glance import image_deletion

    whose, point = sys.argv[1:]
    if whose == "ours":
        image_deletion.install()
    root = Path(tempfile.mkdtemp())
    for name in ("images", "staging", "tasks"):
        (root / name).mkdir()
    config.set_config_defaults()
    from oslo_db import options
    options.set_defaults(cfg.CONF)
    cfg.CONF([], project="glance", default_config_files=[])
    cfg.CONF.set_override("connection", f"sqlite:///{root}/glance.db?plugin=atoll", "database")
    cfg.CONF.set_override("enabled_backends", {"files": "file"})
    glance_store.register_store_opts(cfg.CONF)
    cfg.CONF.set_override("default_backend", "files", "glance_store")
    cfg.CONF.set_override("filesystem_store_datadir", str(root / "images"), "files")
    glance_store.create_multi_stores(cfg.CONF)
    models.BASE.metadata.create_all(api.get_engine())
    admin = context.get_admin_context()
    id_ = "00000000-0000-0000-0000-000000000001"
    file = root / "images" / id_
    file.write_bytes(b"coral")
    place = {"url": f"file://{file}", "metadata": {"store": "files"}, "status": "active"}
    protected = point == "protected"
    api.image_create(admin, {"id": id_, "name": "i", "status": "active", "owner": "o", "visibility": "private", "min_disk": 0,
                             "min_ram": 0, "size": 5, "checksum": "c", "container_format": "bare", "disk_format": "raw",
                             "protected": protected, "locations": [place]})

    def die(*_arguments, **_keywords):
        os._exit(9)

    def dies_after(owner, name):
        function = getattr(owner, name)
        def dying(*arguments, **keywords):
            function(*arguments, **keywords)
            die()
        setattr(owner, name, dying)

    destroy = api.image_destroy
    if point == "after the data":
        dies_after(store_utils.store_api, "delete")
    if point == "after the location":
        dies_after(api, "image_location_delete")
    if point == "before the record":
        api.image_destroy = die
    if point == "refused":
        def forbidden(*_arguments, **_keywords):
            raise glance_store.Forbidden
        store_utils.store_api.delete = forbidden
    if point == "deactivated meanwhile":
        def deactivated(*_arguments, **_keywords):
            api.image_update(admin, id_, {"status": "deactivated"})
            raise glance_store.Forbidden
        store_utils.store_api.delete = deactivated

    def delete():
        images_of = gateway.Gateway(db_api=api).get_repo(admin)
        try:
            image = images_of.get(id_)
            image.delete()
            images_of.remove(image)
        except Exception as error:
            return type(error).__name__
        return "deleted"

    if point in ("", "protected", "refused", "deactivated meanwhile"):
        outcome = delete()
    else:  # the process that deletes dies
        api.get_engine().dispose()
        child = os.fork()
        if child == 0:
            delete()
            os._exit(0)
        outcome = "killed" if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9 else "survived"

    def seen():
        return [row["status"] for row in api.image_get_all(admin, filters={"deleted": False})] + [file.exists()]

    api.image_destroy = destroy
    found = [outcome, seen()]
    for _start in range(2):
        recovery.recover(SimpleNamespace(data=root))
        found.append(seen())
    tell(found)
"""


@pytest.mark.parametrize("point", ["after the data", "after the location", "before the record"])
def test_deletion_that_was_under_way_is_finished_at_the_next_start(point):
    outcome, _left, first, second = inside(DELETE, "ours", point)
    assert outcome == "killed"
    assert first == second == [False]


def test_deletion_is_as_before():
    assert inside(DELETE, "ours", "") == ["deleted", [False], [False], [False]]


def test_image_that_the_store_does_not_give_up_is_as_before():
    assert inside(DELETE, "ours", "refused") == ["Forbidden", *[["active", True]] * 3]


def test_change_during_a_failed_deletion_stays():
    assert inside(DELETE, "ours", "deactivated meanwhile") == ["Forbidden", *[["deactivated", True]] * 3]


def test_protected_image_is_not_touched():
    assert inside(DELETE, "ours", "protected") == ["ProtectedImageDelete", *[["active", True]] * 3]


@pytest.mark.parametrize("point", ["after the data", "after the location"])
def test_upstream_still_needs_it(point):
    outcome, *left = inside(DELETE, "upstream", point)
    assert outcome == "killed"
    assert left == [["active", False]] * 3

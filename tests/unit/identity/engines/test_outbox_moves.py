"""A move of Keystone's database to another engine, and back, takes changes along that are not published yet."""

from contextlib import closing
from dataclasses import replace

import pytest
from engine_servers import SLOW, EngineNode, connected, forget, run
from test_outbox_contract import add, made

from atoll.files import make_directory
from atoll.services import Settings, places
from atoll.services.transfer import database, schema
from atoll.stores.store import close_stores


def move(source: Settings, target: Settings) -> None:
    """Move the database as `atoll database move` does, whose job has made the schema at a server."""
    places.begin_move(target)
    if target.engine in schema.FILES:
        schema.make_file(target, "keystone", "keystone")
    else:
        forget(target.database("keystone"))
    assert database.transfer(source, target, "keystone").copied
    assert not database.transfer(source, target, "keystone").copied
    database.finish(source, target, "keystone")


def url_of(settings: Settings) -> str:
    return settings.database("keystone") + ("&timeout=5" if settings.engine == "redis" else "")


def published(node: EngineNode) -> set[str]:
    return {record.fields["name"] for record in node.document.records("identity.user")}


@pytest.mark.parametrize("engine", ["redis", *SLOW])
def test_changes_that_wait_are_published_after_a_move(servers, engine, tmp_path):
    there = servers.settings(engine)
    here = Settings(site="paris", directory=tmp_path / "here", templates=there.templates, host="", ports={}, secrets={})
    back = replace(here, directory=tmp_path / "back")
    for each in (here, back):
        make_directory(each.directory)
        make_directory(each.data)
    (here.data / "keystone.db").write_bytes(servers.template.read_bytes())
    with closing(EngineNode("paris", tmp_path / "paris", url_of(here))) as node:
        node.replica.prepare()
        made(node, "before")
        node.replica.pull()
        made(node, "waiting")
        for number, (source, target) in enumerate(((here, there), (there, back))):
            waiting = node.entries()
            assert waiting
            node.replica.close()
            close_stores()
            move(source, target)
            close_stores()
            node.url = url_of(target)
            assert node.entries() == waiting
            with connected(node.url) as connection:  # Keystone starts before the gateway, which installs the triggers
                add(connection, f"early{number}")
                connection.commit()
            node.open()
            node.replica.prepare()
            node.check()
            made(node, f"later{number}")
            assert node.replica.pull() == 1
            assert {"waiting", f"early{number}", f"later{number}", f"before{number or ''}"} <= published(node)
            rename(node, f"before{number or ''}", f"before{number + 1}")


def rename(node: EngineNode, old: str, new: str) -> None:
    """Leave a change that waits for the next move."""
    with connected(node.url) as connection:
        run(connection, "UPDATE local_user SET name = ? WHERE name = ?", new, old)
        connection.commit()

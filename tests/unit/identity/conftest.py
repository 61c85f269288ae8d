import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from identities import Keystone, Node

BOOTSTRAP = """
resource.create_domain("default", {"id": "default", "name": "Default", "enabled": True})
for name, id in {"admin": "a" * 32, "member": "b" * 32, "reader": "c" * 32}.items():
    role.create_role(id, {"id": id, "name": name})
"""
"""The same ids at every site, as `services.keystone.bootstrap` creates them."""


@pytest.fixture(scope="session")
def keystone() -> Iterator[Keystone]:
    """The process with Keystone, imported once for all tests."""
    keystone = Keystone()
    yield keystone
    keystone.close()


@pytest.fixture(scope="session")
def keystone_template(keystone: Keystone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of Keystone's own migrations and managers, with the default domain and three roles."""
    directory = tmp_path_factory.mktemp("keystone")
    keystone.run(directory, "template")
    database = directory / "keystone.db"
    keystone.run(database, BOOTSTRAP)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return database


@pytest.fixture
def node(keystone_template: Path, tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Create sites, whose tables and documents agree at first."""
    made: list[Node] = []
    opened = ExitStack()

    def make(name: str, template: Path = keystone_template, *, prepared: bool = True, **options: object) -> Node:
        made.append(opened.enter_context(closing(Node(name, tmp_path / name, template, **options))))
        if prepared:
            made[-1].replica.prepare()
        return made[-1]

    with opened:  # a failure closes all of them
        yield make
        for each in made:
            each.check()

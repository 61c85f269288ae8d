from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from engine_servers import QUICK, SLOW, EngineNode, Servers
from identities import Keystone, Node, converge

from atoll.stores.store import close_stores


@pytest.fixture(scope="session")
def servers(keystone: Keystone, keystone_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with closing(Servers(tmp_path_factory.mktemp("e"), keystone, keystone_template)) as made:
        yield made


@pytest.fixture(scope="module", params=[*QUICK, *SLOW])
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def agreeing(
    servers: Servers, engine: str, keystone_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[EngineNode, Node]]:
    """Two sites that agree: paris, whose Keystone database is at the engine, and lyon, whose is a file of SQLite."""
    home = tmp_path_factory.mktemp("a")
    paris = EngineNode("paris", home / "paris", servers.url(engine, home / "site"))
    with closing(paris), closing(Node("lyon", home / "lyon", keystone_template)) as lyon:
        for each in (paris, lyon):
            each.replica.prepare()
        converge([paris, lyon])
        yield paris, lyon
    close_stores()

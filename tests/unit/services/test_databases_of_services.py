"""The databases that a site makes at a server when its services first start."""

from dataclasses import replace
from pathlib import Path

import pytest

from atoll.services import database_servers, databases, places
from atoll.services.contract import Settings
from atoll.services.database_servers import ServerError


@pytest.fixture
def paris(settings) -> Settings:
    told = replace(settings, engine="mariadb", server="mysql+pymysql://atoll:GEHEIM@db:3306", cloud="demo")
    told.data.mkdir(parents=True)
    return told


class Server:
    """A server that remembers what it was asked for."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.foreign: set[str] = set()
        self.failing = ""

    def clear(self, _settings: Settings, name: str, *, own: bool) -> None:
        self.done.append(f"clear {name}{' of our own' if own else ''}")
        if name in self.foreign and not own:
            raise ServerError(f"db:3306 has a database {name} already")

    def create(self, _settings: Settings, name: str) -> None:
        if name == self.failing:
            raise ServerError("db:3306: mariadb can't be used: it is full")
        self.done.append(f"create {name}")

    def seed(self, _settings: Settings, name: str, template: Path) -> None:
        self.done.append(f"seed {name} with {template.parent.name}/{template.name}")


@pytest.fixture
def server(monkeypatch) -> Server:
    made = Server()
    for name in ("clear", "create", "seed"):
        monkeypatch.setattr(database_servers, name, getattr(made, name))
    monkeypatch.setattr(databases, "_in_process", lambda make, urls: make(urls))
    return made


NAMES = ["nova_api", "nova_cell0"]


def marks(paris: Settings) -> list[str]:
    return sorted(path.name for path in places.marks(paris).iterdir())


def test_databases_are_made_once(paris, server):
    made: list[dict[str, str]] = []
    databases.prepare(paris, "nova", NAMES, lambda urls: made.append(dict(urls)))
    assert made == [{name: paris.database(name) for name in NAMES}]
    assert server.done == ["clear nova_api", "create nova_api", "clear nova_cell0", "create nova_cell0"]
    assert marks(paris) == NAMES
    assert {(path.read_text(), path.stat().st_mode & 0o077) for path in places.marks(paris).iterdir()} == {("db:3306", 0)}
    databases.prepare(paris, "nova", NAMES, lambda _urls: pytest.fail("made twice"))


def test_a_database_that_the_site_has_not_made_is_not_taken_over(paris, server):
    server.foreign = {"nova_api"}
    with pytest.raises(SystemExit, match="db:3306 has a database nova_api already") as caught:
        databases.prepare(paris, "nova", NAMES, lambda _urls: pytest.fail("made"))
    assert "GEHEIM" not in str(caught.value)
    assert marks(paris) == []


def test_what_was_begun_is_made_anew(paris, server):
    server.failing = "nova_cell0"
    with pytest.raises(SystemExit, match="it is full"):
        databases.prepare(paris, "nova", NAMES, lambda _urls: pytest.fail("made"))
    assert marks(paris) == ["nova_api.begun", "nova_cell0.begun"]
    server.failing, server.done, server.foreign = "", [], set(NAMES)
    databases.prepare(paris, "nova", NAMES, lambda _urls: None)
    assert server.done[0] == "clear nova_api of our own"
    assert marks(paris) == NAMES


def test_redis_begins_with_the_template(paris, server):
    told = replace(paris, engine="redis", server="redis://db")
    databases.prepare(told, "nova", NAMES, lambda _urls: pytest.fail("Redis needs no migrations"))
    assert "seed nova_api with nova/nova_api.db" in server.done


def test_keystones_file_of_an_earlier_version_is_refused(paris, server):
    """An earlier version kept Keystone's database in SQLite at all sites: a new one would lack all users."""
    (paris.data / "keystone.db").touch()
    with pytest.raises(SystemExit, match=r"keystone\.db is of a version of Atoll that kept keystone in SQLite"):
        databases.prepare(paris, "keystone", ["keystone"], lambda _urls: pytest.fail("made"))
    assert server.done == []
    places.begin_move(paris)  # during a move, the file is the source
    databases.prepare(paris, "keystone", ["keystone"], lambda _urls: None)
    places.end_move(paris)
    databases.prepare(paris, "keystone", ["keystone"], lambda _urls: pytest.fail("made twice"))


def test_a_schema_that_cannot_be_made_is_told(paris):
    def fail(_urls):
        raise SystemExit(3)

    with pytest.raises(SystemExit, match="the schema of glance could not be made"):
        databases._in_process(fail, {"glance": "x"})


@pytest.mark.parametrize(
    ("engine", "url"),
    [
        ("redis", "rediss://atoll:GEHEIM@127.0.0.1:1?ca=/no/ca.pem"),
        ("mariadb", "mysql+pymysql://atoll:GEHEIM@127.0.0.1:1?ssl_ca=/no/ca.pem"),
        ("postgresql", "postgresql+psycopg://atoll:GEHEIM@127.0.0.1:1?sslmode=verify-full&sslrootcert=/no/ca.pem"),
    ],
)
def test_a_missing_file_of_a_certificate_is_one_line(settings, engine, url):
    with pytest.raises(ServerError, match=r"127\.0\.0\.1:1") as caught:
        database_servers.check(replace(settings, engine=engine, server=url))
    assert "GEHEIM" not in str(caught.value)


def test_a_server_that_does_not_answer_is_told_without_its_password(settings):
    for engine, url in (
        ("redis", "redis://atoll:GEHEIM@127.0.0.1:1"),
        ("mariadb", "mysql+pymysql://atoll:GEHEIM@127.0.0.1:1"),
        ("postgresql", "postgresql+psycopg://atoll:GEHEIM@127.0.0.1:1"),
    ):
        with pytest.raises(ServerError) as caught:
            database_servers.check(replace(settings, engine=engine, server=url))
        assert "GEHEIM" not in str(caught.value)
        assert "127.0.0.1:1" in str(caught.value)
        assert "\n" not in str(caught.value)

"""The marks of the places where a site has databases."""

from dataclasses import replace

import pytest

from atoll.services import places


@pytest.fixture
def paris(settings):
    settings.data.mkdir(parents=True)
    return settings


def test_each_server_is_a_place_of_its_own(paris):
    urls = ("mysql+pymysql://a:GEHEIM@db:3306", "mysql+pymysql://a:GEHEIM@other:3306", "mysql+pymysql://a@l?unix_socket=/run/m.sock")
    found = {replace(paris, engine="mariadb", server=url).place for url in ("", *urls)}
    assert len(found) == 4
    assert not any("/" in key or "GEHEIM" in key for key in found)
    assert replace(paris, engine="mariadb", server="mysql+pymysql://b:other@db:3306?ssl_ca=/x").place == "mariadb@db:3306"


def test_each_redis_has_replicas_of_its_own(paris):
    """A replica belongs to one log, and during a move a site has two."""
    urls = ("", "redis://db", "redis://db/1", "redis://other")
    found = {replace(paris, engine="redis", server=url).database_file("glance") for url in urls}
    assert len(found) == 4
    assert {path.parents[1] for path in found} == {paris.data / "replicas"}
    assert replace(paris, engine="redis").database_file("octavia") == paris.data / "octavia.db"


def test_a_place_is_described_without_its_password(paris):
    assert places.described(paris) == "sqlite"
    assert places.described(replace(paris, engine="redis")) == "a redis of its own"
    assert places.described(replace(paris, engine="redis", server="redis://a:GEHEIM@db")) == "redis at db"


def test_sqlite_has_the_databases_whose_files_are_complete(paris):
    assert not places.has_data(paris)
    for name in ("octavia", "keystone", "glance", "neutron"):
        (paris.data / f"{name}.db").touch()
        assert places.has_data(paris) == (name != "octavia")
    places.begin_move(paris)
    (places.marks(paris) / "neutron.begun").touch()
    assert [name for name in ("glance", "neutron", "nova_api") if places.has(paris, name)] == ["glance"]


def test_a_server_has_the_databases_with_a_mark(paris):
    told = replace(paris, engine="redis", server="redis://db")
    places.begin_move(told)
    assert not places.has_data(told)
    for name in ("glance", "nova_api.begun"):
        (places.marks(told) / name).write_text("db")
    assert places.made(told) == {"glance": "db", "nova_api": "db"}
    assert places.has(told, "glance")
    assert not places.has(told, "nova_api")


def test_the_places_that_a_site_does_not_use_are_known(paris):
    told = replace(paris, engine="redis", server="redis://a:GEHEIM@db")
    assert list(places.others(paris)) == []
    places.record(paris)
    places.begin_move(told)
    assert [each.place for each in places.others(paris)] == ["redis@db"]
    assert [each.engine for each in places.others(told)] == ["sqlite"]
    assert next(places.others(paris)).server == "redis://a:GEHEIM@db"
    assert (places.is_moving(told), places.is_moving(paris)) == (True, False)
    places.end_move(told)
    assert not places.is_moving(told)
    assert {path.stat().st_mode & 0o077 for path in (paris.data / "databases").rglob("*")} == {0}

"""The URLs that services get."""

import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from atoll.services import SERVICES
from atoll.services.contract import Settings
from atoll.stores.url import parse

SERVERS = {
    "redis": "redis://atoll:GEHEIM@db:6379/1?wait=1",
    "mariadb": "mysql+pymysql://atoll:GEHEIM@db:3306?ssl_ca=/ca.pem",
    "postgresql": "postgresql+psycopg://atoll:GEHEIM@db:5432",
}


@pytest.fixture(params=SERVERS)
def remote(request, settings) -> Settings:
    return replace(settings, cloud="demo", engine=request.param, server=SERVERS[request.param])


def test_a_database_at_redis_has_a_replica_and_a_log_of_the_site(settings):
    told = replace(settings, cloud="demo", engine="redis", server=SERVERS["redis"])
    url = make_url(told.database("nova_api"))
    assert url.drivername == "sqlite+redis"  # oslo.db treats it as SQLite
    found = parse(url)
    assert (found.host, found.port, found.database, found.password, found.wait) == ("db", 6379, 1, "GEHEIM", 1)
    assert (found.log, found.cloud, found.site, found.durability) == ("demo.paris.nova_api", "demo", "paris", "full")
    assert found.replica == settings.data / "replicas" / "redis@db:6379%2F1" / "nova_api.db"
    assert parse(make_url(replace(told, durability="relaxed").database("nova_api"))).durability == "relaxed"


def test_names_at_mariadb_need_no_quotes_and_stay_unique(settings):
    """Keystone's first migration writes the name into an SQL statement without quotes."""
    named = {
        (cloud, site, name): make_url(
            replace(settings, cloud=cloud, site=site, engine="mariadb", server=SERVERS["mariadb"]).database(name)
        ).database
        for cloud in ("a", "a-b", "a--b", "b", "a-b-c")
        for site in ("b", "b-c", "c", "b--c", "a-b")
        for name in ("keystone", "nova_api")
    }
    assert all(re.fullmatch("[a-z0-9_]+", called) for called in named.values())
    assert len(set(named.values())) == len(named)
    assert named["a-b", "b-c", "nova_api"] == "a__b_b__c_nova_api"
    other = replace(settings, cloud="a-b", site="b-c", engine="postgresql", server=SERVERS["postgresql"])
    assert make_url(other.database("keystone")).database == "a-b_b-c_keystone"


def test_keystones_migration_still_does_not_quote_the_name():
    """If this fails, names at MariaDB may have hyphens again, as at PostgreSQL."""
    (package,) = find_spec("keystone").submodule_search_locations  # without its import
    path = Path(package, "common", "sql", "migrations", "versions", "27e647c0fad4_initial_version.py")
    text = path.read_text(encoding="utf-8")
    assert "ALTER DATABASE {bind.engine.url.database} DEFAULT" in text


def test_encryption_and_sentinels_survive(settings):
    tls = replace(settings, engine="redis", server="rediss://db?ca=/ca.pem")
    assert parse(make_url(tls.database("glance"))).tls
    sentinels = replace(settings, engine="redis", server="redis+sentinel://a:1?service=m&sentinel=b:2")
    found = parse(make_url(sentinels.database("glance")))
    assert (found.service, found.host, found.port, found.sentinels) == ("m", "a", 1, (("b", 2),))


def test_a_database_at_a_server_has_the_names_of_cloud_and_site(settings):
    told = replace(settings, cloud="demo", engine="mariadb", server=SERVERS["mariadb"])
    url = make_url(told.database("nova_cell0"))
    assert (url.drivername, url.host, url.port, url.database) == ("mysql+pymysql", "db", 3306, "demo_paris_nova_cell0")
    assert url.query == {"ssl_ca": "/ca.pem"}
    url = make_url(replace(settings, cloud="demo", engine="postgresql", server=SERVERS["postgresql"]).database("glance"))
    assert (url.drivername, url.database, url.query) == ("postgresql+psycopg", "demo_paris_glance", {"plugin": "atoll-postgresql"})


@pytest.mark.parametrize("engine", ["redis", "mariadb", "postgresql"])
def test_a_server_of_the_site_itself_is_at_a_socket(settings, engine):
    own = replace(settings, engine=engine)
    url = make_url(own.database("glance"))
    assert str(own.sockets / engine) in str(url.query)
    assert url.password == own.secrets["database"]


def test_every_service_is_configured_with_the_server(remote):
    texts = {service.name: "".join(service.configuration(remote).values()) for service in SERVICES}
    assert {name for name, text in texts.items() if "GEHEIM" in text} == {"keystone", "placement", "glance", "neutron", "nova"}
    assert texts["nova"].count("GEHEIM") == 2
    assert all("sqlite:///" not in text for text in texts.values())


def test_settings_show_no_server(remote):
    assert "GEHEIM" not in repr(remote)

"""Sites that share databases, in the verbs `up`, `destroy` and `database move`."""

import hashlib
from urllib.parse import urlsplit

import pytest

from atoll.cloud.databases import Database
from atoll.errors import AtollError
from atoll.files import make_directory
from atoll.services import bus_router, database_servers, engines, places
from atoll.services.engines import redis
from atoll.site import departure, moves
from atoll.site.composition import load_settings
from atoll.site.destroy import destroy
from atoll.site.sites import site_settings
from atoll.site.up import up

TOPOLOGY = "topology: {preset: mesh}\n"


@pytest.fixture
def file(tmp_path):
    def write(*sites: str, more: str = ""):
        path = tmp_path / "cloud.yaml"
        path.write_text("name: duo\nsites:\n" + "".join(f"- {site}\n" for site in sites) + more)
        return path

    return write


PARIS, LYON, NICE = "{name: paris, database: {start: redis}}", "{name: lyon, database: {of: paris}}", "{name: nice}"


@pytest.fixture(autouse=True)
def checked(monkeypatch) -> list[str]:
    """Every server is usable, and every program is installed."""
    done: list[str] = []
    monkeypatch.setattr(database_servers, "check", lambda settings: done.append(settings.server))
    monkeypatch.setattr(database_servers, "has", lambda _settings, _name: False)
    monkeypatch.setattr(engines, "obstacle", lambda _engine: ("", ""))
    return done


def refused(code: str, run, *arguments) -> str:
    with pytest.raises(AtollError) as caught:
        run(*arguments)
    assert caught.value.kind.code == code
    assert "\n" not in caught.value.message
    return caught.value.message


def test_services_of_a_site_start_after_those_of_the_owner(state, cache, runtime, file):
    up(state, cache, file(LYON, PARIS))
    processes = {process.name: process for process in runtime.plans[-1].processes}
    for name in ("keystone", "placement", "neutron", "nova"):
        assert {f"paris/{name}", "paris/redis"} <= set(processes[f"lyon/{name}"].needs), "one site at a time must prepare a database"
        assert not any(need.startswith("lyon/") for need in processes[f"paris/{name}"].needs)
    assert "lyon/redis" not in processes
    assert {"paris/bus", "lyon/bus"} <= processes.keys()


def test_sites_share_accounts_and_have_their_own_user_at_the_server(state, cache, runtime, file, checked):
    up(state, cache, file(PARIS, LYON, NICE, more=TOPOLOGY))
    paris, lyon, nice = (site_settings(state, name) for name in ("paris", "lyon", "nice"))
    assert {name for name in paris.secrets if paris.secrets[name] != lyon.secrets[name]} == {"database"}
    assert lyon.owner == paris.owner
    url = urlsplit(lyon.server)
    assert (url.scheme, url.hostname, url.port, url.username) == ("rediss", paris.host, 6379, "atoll-lyon")
    conf = redis.configuration(paris)["redis/redis.conf"]
    assert {"tls-port 6379", f"bind {paris.host}", "tls-auth-clients yes"} <= set(conf.splitlines())
    digest = hashlib.sha256(lyon.secrets["database"].encode()).hexdigest()
    keys = " ".join(f"~{{duo.paris.{name}}}:*" for name in ("keystone", "placement", "neutron", "nova_api", "nova_cell0", "nova_cell1"))
    assert f"user atoll-lyon on #{digest} {keys} {redis.RIGHTS}\n" in conf
    assert "port 0\n" in conf, "nobody may connect without TLS"
    assert paris.groups == nice.groups == {"paris": "paris", "lyon": "paris"}
    assert (nice.sharing, nice.shares, checked) == ({}, "", [])


def test_without_a_topology_the_socket_of_the_owner_is_the_address(state, cache, runtime, file):
    up(state, cache, file(PARIS, LYON))
    paris, lyon = site_settings(state, "paris"), site_settings(state, "lyon")
    assert str(paris.sockets / "redis" / "redis.sock") in lyon.database("keystone").replace("%2F", "/")
    assert "tls-port" not in redis.configuration(paris)["redis/redis.conf"]


def test_the_routers_of_one_bus_trust_one_another(state, cache, runtime, file):
    up(state, cache, file(PARIS, LYON, NICE, more=TOPOLOGY))
    paris, lyon = site_settings(state, "paris"), site_settings(state, "lyon")
    assert (bus_router.earlier(paris), bus_router.earlier(lyon)) == ([], [f"tls/{paris.host}:7447"])
    assert [each.common_name for each in bus_router.clients(lyon)] == ["paris"]
    assert [each.common_name for each in bus_router.clients(paris)] == ["lyon"]
    assert paris.transport_url == lyon.transport_url == "zenoh:///paris"


def test_an_existing_server_is_checked_for_the_owner_alone(state, cache, runtime, file, checked, monkeypatch):
    owner = "{name: paris, database: 'redis://10.0.0.1'}"
    up(state, cache, file(owner, LYON))
    assert checked == ["redis://10.0.0.1"]
    assert site_settings(state, "lyon").server == "redis://10.0.0.1"
    monkeypatch.setattr(database_servers, "has", lambda _settings, _name: True)
    told = refused("database.unavailable", up, state, cache, file(owner, LYON))
    assert "which this site has not made" in told


def test_a_site_with_data_neither_joins_nor_leaves(state, cache, runtime, file):
    up(state, cache, file(PARIS, "{name: lyon}"))
    make_directory(site_settings(state, "lyon").data)
    (site_settings(state, "lyon").data / "nova_api.db").touch()
    told = refused("cloud.invalid", up, state, cache, file(PARIS, LYON))
    assert told.startswith("lyon has its data in sqlite, not in the databases of paris: expected its `database` as it was")
    (site_settings(state, "lyon").data / "nova_api.db").unlink()
    up(state, cache, file(PARIS, LYON))
    make_directory(places.marks(site_settings(state, "lyon")))
    (places.marks(site_settings(state, "lyon")) / "keystone").touch()
    told = refused("cloud.invalid", up, state, cache, file(PARIS, "{name: lyon}"))
    assert told.startswith("lyon has its data in the databases of paris, not in sqlite")


def test_the_owner_can_not_be_removed_alone(state, cache, runtime, file):
    up(state, cache, file(PARIS, LYON, NICE))
    told = refused("site.needed", destroy, state, ["paris"])
    assert told == "paris has the databases of lyon, which can't do without them"
    assert site_settings(state, "paris")


def test_a_site_leaves_with_its_services_and_takes_no_database_with_it(state, cache, runtime, file, monkeypatch):
    left, dropped = [], []
    monkeypatch.setattr(departure, "_check_runs", lambda *_given: None)
    monkeypatch.setattr("atoll.site.destroy.depart", lambda owner, name: left.append((owner.site, name)))
    monkeypatch.setattr(database_servers, "drop", lambda settings, names: dropped.append((settings.site, names)))
    up(state, cache, file("{name: paris, database: 'redis://10.0.0.1'}", LYON))
    for name in ("paris", "lyon"):
        settings = load_settings(state.site(name))
        make_directory(places.marks(settings))
        (places.marks(settings) / "keystone").write_text("10.0.0.1:6379")
    destroy(state, ["lyon"])
    assert (left, dropped) == ([("paris", "lyon")], [])


def test_shared_databases_do_not_move(state, cache, runtime, file):
    up(state, cache, file(PARIS, LYON))
    for name, other in (("paris", "lyon"), ("lyon", "paris")):
        told = refused("cloud.invalid", moves.move, state, cache, name, Database(start="mariadb"))
        assert told == f"{name} shares its databases with {other}: expected a site with databases of its own"

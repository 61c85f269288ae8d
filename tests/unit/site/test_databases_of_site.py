"""The field `database` in the verbs `up`, `status` and `destroy`."""

import json

import pytest

from atoll.errors import AtollError
from atoll.services import database_servers, engines, places
from atoll.site import databases
from atoll.site.composition import load_settings
from atoll.site.destroy import destroy
from atoll.site.sites import site_settings
from atoll.site.status import status
from atoll.site.up import up


@pytest.fixture
def file(tmp_path):
    def write(database: str):
        path = tmp_path / "cloud.yaml"
        path.write_text(f"sites:\n- name: paris\n  database: {database}\n")
        return path

    return write


@pytest.fixture(autouse=True)
def checked(monkeypatch) -> list[str]:
    """Every server is usable, and every program is installed."""
    done: list[str] = []
    monkeypatch.setattr(database_servers, "check", lambda settings: done.append(settings.server))
    monkeypatch.setattr(engines, "obstacle", lambda _engine: ("", ""))
    return done


def refused(code: str, *arguments) -> str:
    with pytest.raises(AtollError) as caught:
        up(*arguments)
    assert caught.value.kind.code == code
    assert "\n" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize("engine", ["redis", "mariadb", "postgresql"])
def test_a_site_starts_its_server_before_the_services_that_need_it(state, cache, runtime, file, engine):
    up(state, cache, file(f"{{start: {engine}}}"))
    processes = {process.name: process for process in runtime.plans[-1].processes}
    for name in ("keystone", "placement", "glance", "neutron", "nova"):
        assert f"paris/{engine}" in processes[f"paris/{name}"].needs
    secret = site_settings(state, "paris").secrets["database"]
    assert secret not in json.dumps([process.to_json() for process in processes.values()])
    found = status(state)
    assert found.sites[0].database == f"{engine}"
    assert secret not in json.dumps(found.to_json())


def test_a_site_on_sqlite_says_so(state, cache, runtime, file):
    up(state, cache, file("sqlite"))
    assert status(state).sites[0].database == "sqlite"


def test_a_server_is_checked_before_anything_starts(state, cache, runtime, file, monkeypatch):
    def check(_settings):
        raise database_servers.ServerError("db:6379: Redis keeps no append-only file")

    monkeypatch.setattr(database_servers, "check", check)
    message = refused("database.unavailable", state, cache, file("redis://db:6379"))
    assert message == "the databases of paris: db:6379: Redis keeps no append-only file"
    assert not runtime.plans
    assert not state.existing_sites()


def test_a_missing_program_is_told_before_anything_starts(state, cache, runtime, file, monkeypatch):
    monkeypatch.setattr(engines, "obstacle", lambda _engine: ("mariadbd is not installed", "sudo apt-get install mariadb-server"))
    message = refused("database.unavailable", state, cache, file("{start: mariadb}"))
    assert message == "paris is to start mariadb, but mariadbd is not installed"
    assert not runtime.plans


def test_the_password_is_read_from_its_file_and_not_shown(state, cache, runtime, file, tmp_path, checked):
    secret = tmp_path / "secret"
    secret.write_text("GEHEIM@\n")
    secret.chmod(0o644)
    yaml = file(f"{{url: 'redis://atoll@db:6379', password_file: {secret}}}")
    assert "others can read the password of the databases of paris" in refused("cloud.invalid", state, cache, yaml)
    secret.chmod(0o600)
    up(state, cache, yaml)
    assert checked == ["redis://atoll:GEHEIM%40@db:6379"]
    told = [process.to_json() for process in runtime.plans[-1].processes]
    found = status(state)
    assert found.sites[0].database == "redis at db:6379"
    assert "GEHEIM" not in json.dumps([told, found.to_json()]) + state.cloud_file.read_text()
    private = [path for path in state.root.rglob("*") if path.is_file() and b"GEHEIM" in path.read_bytes()]
    assert private, "the services need it"
    assert {path.stat().st_mode & 0o077 for path in private} == {0}


@pytest.mark.parametrize(("before", "after"), [("sqlite", "{start: redis}"), ("{start: redis}", "redis://db"), ("redis://db", "sqlite")])
def test_another_engine_is_refused_for_a_site_with_data(state, cache, runtime, file, before, after):
    up(state, cache, file(before))
    data = state.site("paris") / "data"
    up(state, cache, file(after))  # nothing was made yet
    up(state, cache, file(before))
    if before == "sqlite":
        (data / "nova_api.db").touch()
    else:
        mark(state)
    plans = len(runtime.plans)
    assert "paris has its data in" in refused("cloud.invalid", state, cache, file(after))
    assert len(runtime.plans) == plans
    up(state, cache, file(before))


def mark(state, name: str = "nova_api") -> None:
    """Have the site made a database."""
    marks = places.marks(site_settings(state, "paris"))
    marks.mkdir(parents=True, exist_ok=True)
    (marks / name).write_text("db")


def test_another_server_of_the_same_engine_is_refused_for_a_site_with_data(state, cache, runtime, file):
    """The other server may have databases of the same names, of another cloud, or older ones of this site."""
    up(state, cache, file("redis://atoll@db"))
    mark(state)
    message = refused("cloud.invalid", state, cache, file("redis://atoll@other"))
    assert message.startswith("paris has its data in redis at db, not in redis at other: expected its `database` as it was")
    assert "`atoll database move paris redis://atoll@other`" in message
    assert site_settings(state, "paris").server == "redis://atoll@db"
    up(state, cache, file("redis://somebody@db?wait=1"))  # another user and other parameters
    assert site_settings(state, "paris").server == "redis://somebody@db?wait=1"


def make(state, cache, file) -> None:
    up(state, cache, file("redis://db"))
    for name in ("glance", "nova_api.begun"):
        mark(state, name)


def test_destroy_removes_the_databases_at_a_server(state, cache, runtime, file, monkeypatch):
    make(state, cache, file)
    gone: list[list[str]] = []
    monkeypatch.setattr(database_servers, "drop", lambda _settings, names: gone.append(names))
    destroy(state)
    assert gone == [["glance", "nova_api"]]
    assert not state.root.exists()


def test_destroy_removes_nothing_at_an_address_where_the_site_has_made_nothing(state, cache, runtime, file, monkeypatch):
    """The new server may have databases of the same names, of another cloud."""
    make(state, cache, file)
    for path in places.marks(site_settings(state, "paris")).iterdir():
        path.write_text("elsewhere")
    monkeypatch.setattr(database_servers, "drop", lambda _settings, names: pytest.fail(f"removed {names}"))
    with pytest.raises(AtollError) as caught:
        destroy(state)
    assert caught.value.kind.code == "database.left"
    assert "paris: glance: made at elsewhere; paris: nova_api: made at elsewhere" in caught.value.message


def test_destroy_tells_which_databases_it_could_not_remove(state, cache, runtime, file, monkeypatch):
    make(state, cache, file)

    def drop(_settings, _names):
        raise database_servers.ServerError("db: Redis can't be used: no answer")

    monkeypatch.setattr(database_servers, "drop", drop)
    with pytest.raises(AtollError) as caught:
        destroy(state)
    assert caught.value.kind.code == "database.left"
    assert caught.value.message == "databases are left at their servers: paris: glance, nova_api: db: Redis can't be used: no answer"
    assert not state.root.exists()


def test_a_compute_site_has_no_databases_of_its_own(state, cache, runtime, tmp_path):
    path = tmp_path / "cloud.yaml"
    path.write_text("sites:\n- {name: paris, database: {start: redis}}\n- {name: edge, kind: compute, control: paris}\n")
    up(state, cache, path)
    assert [site.database for site in status(state).sites] == ["redis", ""]
    edge = load_settings(state.site("edge"))
    assert "database" not in edge.secrets
    assert (edge.engine, edge.server) == ("sqlite", "")
    assert databases.remove(edge) == ""

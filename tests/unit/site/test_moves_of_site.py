"""`atoll database move` and `clean`: refusals, crash points, and what is left behind. tests/sites/test_moves.py moves real data."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from atoll.cloud.databases import parse_database
from atoll.errors import AtollError
from atoll.services import database_servers, engines, places
from atoll.services.transfer import database, schema
from atoll.services.transfer.database import Copied
from atoll.services.transfer.errors import TransferError
from atoll.site import moves
from atoll.site.composition import load_settings
from atoll.site.destroy import destroy
from atoll.site.down import down
from atoll.site.sites import applied_cloud
from atoll.site.up import up

NAMES = [name for names in schema.DATABASES.values() for name in names]


class Killed(BaseException):
    """The end of the command at any moment."""


@pytest.fixture
def copied(monkeypatch) -> list[str]:
    """No rows are copied; the databases that would be are noted."""
    done: list[str] = []

    def transfer(_source, target, name, _tell=None) -> Copied:
        done.append(name)
        if target.engine == "sqlite":
            target.database_file(name).touch()
        else:
            (places.marks(target) / name).write_text("db")
        return Copied(2, 10, copied=True)

    monkeypatch.setattr(database, "transfer", transfer)
    monkeypatch.setattr(database, "finish", lambda *_arguments: None)
    monkeypatch.setattr(schema, "make_file", lambda *_arguments: None)
    monkeypatch.setattr(database_servers, "check", lambda _settings: None)
    monkeypatch.setattr(database_servers, "clear", lambda _settings, _name, *, own: None)
    monkeypatch.setattr(engines, "obstacle", lambda _engine: ("", ""))
    return done


@pytest.fixture
def paris(state, cache, runtime, copied, tmp_path) -> Path:
    """Return the data directory of a stopped site on SQLite, with data."""
    path = tmp_path / "cloud.yaml"
    path.write_text("sites:\n- name: paris\n- {name: lyon, services: {nova: false}}\n")
    up(state, cache, path)
    down(state)
    data: Path = state.site("paris") / "data"
    for name in NAMES:
        (data / f"{name}.db").write_text(f"rows of {name}")
    return data


def engine(state) -> str:
    cloud = applied_cloud(state)
    assert cloud is not None
    return cloud.sites[0].database.engine


def refused(code: str, call: Callable[[], object]) -> str:
    with pytest.raises(AtollError) as caught:
        call()
    assert caught.value.kind.code == code, caught.value.message
    assert "\n" not in caught.value.message
    return caught.value.message


def test_all_databases_move_and_the_place_is_recorded(state, cache, runtime, paris, copied):
    events = []
    found = moves.move(state, cache, "paris", parse_database("start:mariadb"), events.append)
    assert (found.moved, found.before, found.now, found.field) == (True, "sqlite", "a mariadb of its own", {"start": "mariadb"})
    assert copied == NAMES
    assert list(found.databases) == NAMES
    assert {"paris/nova_api", "paris/mariadb", "paris/schema-nova"} <= {event.process for event in events}
    plan = runtime.plans[-1]
    jobs = {process.name: process for process in plan.processes if process.job}
    assert sorted(jobs) == [f"paris/schema-{service}" for service in sorted(schema.DATABASES)]
    assert {job.needs for job in jobs.values()} == {("paris/mariadb",)}
    assert load_settings(state.site("paris")).secrets["database"] not in json.dumps(plan.to_json())
    assert (engine(state), load_settings(state.site("paris")).engine) == ("mariadb", "mariadb")
    assert (paris / "nova_api.db").read_text() == "rows of nova_api"
    assert (state.site("paris") / "etc/mariadb/my.cnf").exists()
    assert not runtime.alive, "the supervisor that the command has started ends with it"
    up(state, cache)
    assert "paris/mariadb" in runtime.signatures


def test_a_move_to_where_the_data_are_is_not_an_error(state, cache, runtime, paris, copied):
    plans = len(runtime.plans)
    found = moves.move(state, cache, "paris", parse_database("sqlite"))
    assert (found.moved, found.now, found.databases, copied) == (False, "sqlite", {}, [])
    assert len(runtime.plans) == plans


def test_a_running_site_is_refused_and_others_may_run(state, cache, runtime, paris, copied):
    up(state, cache)
    wanted = parse_database("start:mariadb")
    assert "paris is running" in refused("site.running", lambda: moves.move(state, cache, "paris", wanted))
    assert copied == []
    for name in [name for name in runtime.signatures if name.startswith("paris/")]:
        del runtime.signatures[name]
    assert moves.move(state, cache, "paris", wanted).moved
    assert runtime.alive
    assert "lyon/keystone" in runtime.signatures


def test_the_old_yaml_is_refused_afterwards(state, cache, runtime, paris, tmp_path):
    moves.move(state, cache, "paris", parse_database("start:mariadb"))
    message = refused("cloud.invalid", lambda: up(state, cache, tmp_path / "cloud.yaml"))
    assert message.startswith("paris has its data in a mariadb of its own, not in sqlite")
    assert "`atoll database move paris sqlite`" in message


def test_compute_sites_and_unknown_ones_are_refused(state, cache, runtime, copied, tmp_path):
    path = tmp_path / "cloud.yaml"
    path.write_text("sites:\n- name: paris\n- {name: edge, kind: compute, control: paris}\n")
    up(state, cache, path)
    wanted = parse_database("start:redis")
    assert "edge is a compute site of paris" in refused("cloud.invalid", lambda: moves.move(state, cache, "edge", wanted))
    refused("site.unknown", lambda: moves.move(state, cache, "nice", wanted))


def test_a_server_that_holds_other_data_is_refused(state, cache, runtime, paris, copied, monkeypatch):
    def clear(_settings, name: str, *, own: bool) -> None:
        assert not own
        raise database_servers.ServerError(f"db has a database {name} already")

    monkeypatch.setattr(database_servers, "clear", clear)
    plans = len(runtime.plans)
    wanted = parse_database("mysql+pymysql://atoll@db")
    assert refused("database.occupied", lambda: moves.move(state, cache, "paris", wanted)) == "db has a database keystone already"
    assert (len(runtime.plans), engine(state), copied) == (plans, "sqlite", [])
    assert not (paris / "databases").exists()


def test_old_data_are_in_the_way_until_they_are_cleaned(state, cache, runtime, paris, copied):
    assert moves.left_behind(state, "paris") == moves.clean(state, "paris") == ()
    moves.move(state, cache, "paris", parse_database("start:mariadb"))
    (paris / "mariadb").mkdir()
    message = refused("database.occupied", lambda: moves.move(state, cache, "paris", parse_database("sqlite")))
    assert message.startswith("sqlite still has the data of paris")
    assert engine(state) == "mariadb"
    assert moves.left_behind(state, "paris") == ("sqlite",)
    assert moves.clean(state, "paris") == ("sqlite",)
    assert list(paris.glob("*.db")) == []
    assert (paris / "mariadb").exists()
    assert moves.move(state, cache, "paris", parse_database("sqlite")).moved
    assert moves.clean(state, "paris") == ("a mariadb of its own",)
    assert not (paris / "mariadb").exists()
    assert (paris / "nova_api.db").exists()


def test_a_failure_leaves_the_site_where_it_was(state, cache, runtime, paris, monkeypatch):
    def transfer(*_arguments) -> Copied:
        raise TransferError("nova_api: 1 rows of flavors are not the same at source and target")

    monkeypatch.setattr(database, "transfer", transfer)
    wanted = parse_database("start:mariadb")
    assert "1 rows of flavors" in refused("database.failed", lambda: moves.move(state, cache, "paris", wanted))
    assert engine(state) == load_settings(state.site("paris")).engine == "sqlite"
    assert not runtime.alive


def test_a_server_at_another_address_keeps_its_data(state, cache, runtime, paris, copied, monkeypatch):
    moves.move(state, cache, "paris", parse_database("redis://db"))
    copied.clear()
    there = set(NAMES) - {"neutron"}
    monkeypatch.setattr(database_servers, "has", lambda _settings, name: name in there)

    def readdress(place: str) -> moves.Moved:
        return moves.readdress(state, cache, "paris", parse_database(place))

    assert "redis at other has no neutron of paris" in refused("database.unavailable", lambda: readdress("redis://other"))
    refused("cloud.invalid", lambda: readdress("start:redis"))
    refused("cloud.invalid", lambda: readdress("mysql+pymysql://atoll@other"))
    there.add("neutron")
    assert readdress("redis://other").moved
    assert copied == []
    now = load_settings(state.site("paris"))
    assert (now.server, places.made(now)) == ("redis://other", dict.fromkeys(NAMES, "other"))
    assert moves.left_behind(state, "paris") == ("sqlite",), "the databases in use are no remainder"
    assert sorted(path.name for path in (paris / "databases").iterdir()) == ["redis@other", "sqlite"]


STEPS = [
    (places, "begin_move"),
    (moves, "write_configuration"),
    (moves, "start_plan"),
    (database, "transfer"),
    (database, "finish"),
    (moves, "dump_cloud"),
    (moves, "write_private"),
    (places, "end_move"),
]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("module", "step"), STEPS, ids=[step for _module, step in STEPS])
@pytest.mark.parametrize("target", ["start:mariadb", "start:redis"])
def test_a_kill_at_any_step_loses_nothing_and_the_same_command_continues(
    state, cache, runtime, paris, copied, monkeypatch, module, step, after, target
):
    original, calls = getattr(module, step), []

    def deadly(*arguments, **more):
        calls.append(step)
        fatal = len(calls) == (2 if step in {"transfer", "end_move"} else 1)
        if fatal and not after:
            raise Killed
        result = original(*arguments, **more)
        if fatal:
            raise Killed
        return result

    before = {path.name: path.read_text() for path in paris.glob("*.db")}
    with monkeypatch.context() as patched:
        patched.setattr(module, step, deadly)
        with pytest.raises(Killed):
            moves.move(state, cache, "paris", parse_database(target))
    assert {path.name: path.read_text() for path in paris.glob("*.db")} == before
    switched = step == "end_move" or (step, after) == ("write_private", True)
    assert engine(state) == (target.removeprefix("start:") if switched else "sqlite")
    up(state, cache)  # the site works on, wherever it is
    down(state)
    found = moves.move(state, cache, "paris", parse_database(target))
    assert engine(state) == load_settings(state.site("paris")).engine == target.removeprefix("start:")
    assert found.moved != switched
    assert not places.is_moving(load_settings(state.site("paris"))) or switched
    assert {path.name: path.read_text() for path in paris.glob("*.db")} == before


def test_a_schema_that_cannot_be_made_is_told(state, cache, runtime, paris, copied):
    runtime.failing = {"paris/schema-nova": "Traceback:\nSystemExit: the socket has a database nova_api already"}
    message = refused("database.failed", lambda: moves.move(state, cache, "paris", parse_database("start:mariadb")))
    assert "nova_api already" in message
    assert (engine(state), copied) == ("sqlite", [])


def test_clean_stops_the_server_that_a_killed_move_has_left(state, cache, runtime, paris):
    places.begin_move(dataclasses.replace(load_settings(state.site("paris")), engine="mariadb"))
    runtime.alive = True
    runtime.signatures = {"paris/mariadb": "x", "paris/keystone": "x"}
    assert moves.clean(state, "paris") == ("a mariadb of its own",)
    assert list(runtime.signatures) == ["paris/keystone"]
    assert (paris / "nova_api.db").exists()


def test_destroy_removes_what_moves_have_left_at_servers(state, cache, runtime, paris, monkeypatch):
    moves.move(state, cache, "paris", parse_database("redis://db"))
    moves.move(state, cache, "paris", parse_database("redis://other"))
    gone: list[tuple[str, int]] = []
    monkeypatch.setattr(database_servers, "drop", lambda settings, names: gone.append((settings.server, len(names))))
    for path in (paris / "databases").glob("*/[!.]*"):
        path.write_text(path.parent.name.partition("@")[2])
    destroy(state)
    assert sorted(gone) == [("redis://db", len(NAMES)), ("redis://other", len(NAMES))]

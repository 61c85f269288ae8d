"""`atoll database move` and `atoll database clean` on the command line."""

import json

import pytest

from atoll.cli.database import complete_place
from atoll.services.transfer.database import Copied
from atoll.site import moves
from atoll.site.moves import Moved


@pytest.fixture
def moved(monkeypatch) -> list[object]:
    """Every move succeeds; the arguments are noted."""
    asked: list[object] = []

    def move(_state, _cache, site, wanted, _observe=None) -> Moved:
        asked.append(wanted)
        done = {"nova_api": Copied(30, 100, copied=True), "glance": Copied(20, 900, copied=False)}
        there = wanted.engine == "sqlite"
        field = wanted.model_dump(exclude_defaults=True) or "sqlite"
        return Moved(site, "sqlite", "mariadb at db", moved=not there, databases={} if there else done, field=field)

    for name in ("move", "readdress"):
        monkeypatch.setattr(moves, name, move)
    return asked


def test_a_move_tells_what_to_do_next(atoll, moved):
    done = atoll("database", "move", "paris", "start:mariadb")
    assert done.code == 0, done.err
    first, *steps = done.out.splitlines()
    assert first.endswith("paris, from sqlite to mariadb at db; 1000 rows of 50 tables were compared")
    assert 'database: {"start": "mariadb"}' in steps[0]
    assert "site start paris" in steps[1]
    assert "database clean paris" in steps[2]


def test_a_move_as_json(atoll, moved):
    told = json.loads(atoll("database", "move", "paris", "start:mariadb", "--json").out)
    assert (told["site"], told["moved"], told["field"]) == ("paris", True, {"start": "mariadb"})
    assert told["databases"]["glance"] == {"tables": 20, "rows": 900, "copied": False}
    assert told["seconds"] >= 0


def test_a_move_to_where_the_data_are(atoll, moved):
    done = atoll("database", "move", "paris", "sqlite")
    assert (done.code, done.out) == (0, "the databases of paris are in mariadb at db already\n")


def test_the_file_of_a_password_belongs_to_a_url(atoll, moved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert atoll("database", "move", "paris", "mysql+pymysql://atoll@db", "--password-file", "secret").code == 0
    assert moved[0].password_file == str(tmp_path / "secret")
    assert atoll("database", "move", "paris", "redis://other", "--same-data").code == 0
    refused = atoll("database", "move", "paris", "sqlite", "--password-file", "secret")
    assert (refused.code, refused.out) == (1, "")
    assert "expected a `url` with the user" in refused.err


@pytest.mark.parametrize("place", ["mariadb", "start:oracle", "mysql+pymysql://atoll:GEHEIM@db"])
def test_a_wrong_place_is_one_line_without_a_password(atoll, moved, place):
    refused = atoll("database", "move", "paris", place)
    assert (refused.code, refused.out) == (1, "")
    assert len([line for line in refused.err.splitlines() if line.startswith("error: ")]) == 1
    assert "GEHEIM" not in refused.err
    assert not moved


def test_clean_asks_before_it_deletes(atoll, monkeypatch):
    left = ["sqlite"]
    monkeypatch.setattr(moves, "left_behind", lambda _state, _site: tuple(left))
    monkeypatch.setattr(moves, "clean", lambda _state, _site: tuple(left))
    assert "expected --yes" in atoll("database", "clean", "paris").err
    assert atoll("database", "clean", "--yes", "paris").out == "deleted: sqlite\n"
    assert json.loads(atoll("database", "clean", "--yes", "--json", "paris").out) == {"site": "paris", "deleted": ["sqlite"]}
    left.clear()
    assert atoll("database", "clean", "paris").out == "paris has no old data\n"


def test_places_are_completed():
    assert [each.value for each in complete_place(None, None, "start:m")] == ["start:mariadb"]
    assert len(complete_place(None, None, "")) == 7

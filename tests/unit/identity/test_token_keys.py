import pytest

from atoll.identity.token_keys import OWN, TokenKeys


@pytest.fixture
def directory(tmp_path):
    made = tmp_path / "public"
    made.mkdir()
    (made / OWN).write_text("own")
    return made


@pytest.fixture
def keys(directory, tmp_path):
    return TokenKeys(directory, tmp_path)


def held(directory):
    return {path.name: path.read_text() for path in directory.iterdir()}


def test_own_key_stays_whoever_else_is_trusted(keys, directory):
    assert keys.follow({"paris": "P", "lyon": "L"})
    assert keys.follow({})
    assert held(directory) == {OWN: "own"}
    assert keys.own() == "own"


def test_revoked_site_is_no_longer_trusted(keys, directory):
    keys.follow({"paris": "P", "lyon": "L"})
    assert keys.follow({"lyon": "L"})
    assert held(directory) == {OWN: "own", "lyon.pem": "L"}


def test_changed_key_takes_the_place_of_the_old_one(keys, directory):
    keys.follow({"paris": "P"})
    assert keys.follow({"paris": "Q"})
    assert held(directory)["paris.pem"] == "Q"
    assert (directory / "paris.pem").stat().st_mode & 0o777 == 0o600


def test_nothing_new_is_not_a_change(keys):
    keys.follow({"paris": "P"})
    assert not keys.follow({"paris": "P"})

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from atoll.gateway.options import Options


@pytest.fixture
def options() -> Options:
    site = Path("/s/sites/paris")
    return Options(
        cloud="sea",
        site="paris",
        region="RegionOne",
        host="127.0.0.1",
        public_port=15001,
        peer_port=15003,
        mesh_port=15007,
        services={"identity": "http://127.0.0.1:15000", "image": "http://127.0.0.1:15002"},
        data=site / "data/gateway",
        sockets=site / "run",
        tls=site / "tls",
        members_file=site / "members.json",
        identity_database=f"sqlite:///{site / 'data/keystone.db'}",
        token_keys=site / "data/keys/public",
        local_users=("u1", "u2"),
        local_endpoints=("e1",),
        password='a "quoted" password é',
        authority=Path("/s/ca"),
    )


@pytest.mark.parametrize("authority", [Path("/s/ca"), None])
def test_options_come_back(options, tmp_path, authority):
    options = replace(options, authority=authority)
    path = tmp_path / "gateway.json"
    path.write_text(options.dump(), encoding="utf-8")
    assert Options.load(path) == options
    assert {field.name: type(getattr(Options.load(path), field.name)) for field in fields(Options)} == {
        field.name: type(getattr(options, field.name)) for field in fields(Options)
    }


def test_file_is_the_same_whenever_it_is_written(options):
    """Write the same text for the same options, because another text would restart the gateway."""
    assert options.dump() == replace(options).dump()
    assert json.loads(options.dump())["site"] == "paris"


def test_password_is_not_shown(options):
    assert "password é" not in repr(options)


def test_missing_file_is_told(tmp_path):
    with pytest.raises(OSError, match=r"gateway\.json"):
        Options.load(tmp_path / "gateway.json")

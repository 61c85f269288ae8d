"""Regions: a gateway learns of no other site, and a user reaches only servers through the broker."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from atoll.bench.regions import alone
from atoll.bench.regions.users import BrokeredApi, _check_alone
from atoll.errors import AtollError
from atoll.gateway.options import Options


@dataclass(frozen=True)
class SomeOptions:
    """The options of a gateway that matter here."""

    site: str
    members_file: Path


@pytest.fixture
def options(tmp_path):
    file = tmp_path / "members.json"
    file.write_text(json.dumps([{"name": "lyon"}, {"name": "nice"}]), encoding="utf-8")
    return SomeOptions("nice", file)


def test_a_gateway_reads_its_own_card_only(options):
    found: Any = alone.alone(options)
    assert json.loads(found.members_file.read_text(encoding="utf-8")) == [{"name": "nice"}]
    assert len(json.loads(options.members_file.read_text(encoding="utf-8"))) == 2, "the file of the site is as it was"


@pytest.mark.parametrize(
    ("name", "set_", "changed"), [("nice/gateway", True, True), ("nice/nova", True, False), ("nice/gateway", False, False)]
)
def test_only_gateways_of_regions_are_changed(monkeypatch, options, name, set_, changed):
    monkeypatch.delenv(alone.ALONE, raising=False)
    if set_:
        monkeypatch.setenv(alone.ALONE, "1")
    monkeypatch.setattr(Options, "load", staticmethod(lambda _path: options))
    child: Any = SimpleNamespace(name=name)
    alone.install(child)
    loaded: Any = Options.load(Path("x"))
    assert (loaded.members_file != options.members_file) == changed


def test_users_reach_servers_through_the_broker_and_all_else_in_their_region():
    api = BrokeredApi(0, "http://region/identity/v3", "password", "http://broker/secret/nice")
    api._endpoints |= {"compute": "http://region/compute", "network": "http://region/network"}
    assert api.url("compute", "/servers/detail") == "http://broker/secret/nice/servers/detail"
    assert api.url("compute", "/flavors") == "http://region/compute/flavors"
    assert api.url("network", "/v2.0/networks") == "http://region/network/v2.0/networks"


def test_sites_that_cooperate_are_not_regions():
    def api(*zones) -> Any:
        return SimpleNamespace(expect=lambda *_words: {"availabilityZoneInfo": [{"zoneName": zone} for zone in zones]})

    _check_alone({"lyon": api("lyon", "internal"), "nice": api("nice")})
    with pytest.raises(AtollError, match="nice cooperates with lyon"):
        _check_alone({"lyon": api("lyon"), "nice": api("lyon", "nice")})

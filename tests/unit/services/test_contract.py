import json
import stat
from dataclasses import replace

import pytest

from atoll.services import Settings


def test_settings_come_back(settings):
    settings = replace(
        settings,
        debug=True,
        region="West",
        transport_url="rabbit://u:p@h/",
        control="lyon",
        address="127.0.0.2",
        cloud="sea",
        cloudlet_memory_keys=("any",),
    )
    settings.directory.mkdir()
    settings.save()
    assert Settings.load(settings.directory) == settings
    assert Settings.load(str(settings.directory)) == settings


def test_settings_are_their_owners_alone(settings):
    settings.directory.mkdir()
    settings.save()
    assert [path.name for path in settings.directory.iterdir()] == ["settings.json"]
    assert stat.S_IMODE((settings.directory / "settings.json").stat().st_mode) == 0o600


def test_secrets_are_not_shown(settings):
    assert "secret-of" not in repr(replace(settings, transport_url="rabbit://u:secret-of-rabbit@h/"))


def test_settings_of_an_earlier_version_can_be_read(settings):
    settings.directory.mkdir()
    settings.save()
    path = settings.directory / "settings.json"
    known = json.loads(path.read_text())
    for name in ("transport_url", "control", "address", "cloud"):
        del known[name]
    path.write_text(json.dumps(known))
    assert (Settings.load(settings.directory).control, Settings.load(settings.directory).own_address) == ("", settings.host)


def test_settings_cannot_be_read_in_half(settings):
    settings.directory.mkdir()
    settings.save()
    before = (settings.directory / "settings.json").read_text()
    with pytest.raises(TypeError):
        replace(settings, ports={"identity": object()}).save()
    assert (settings.directory / "settings.json").read_text() == before


def test_missing_settings_are_told(settings):
    with pytest.raises(OSError, match=r"settings\.json"):
        Settings.load(settings.directory)


def test_url_and_database(settings):
    assert settings.url("image") == "http://127.0.0.1:15002"
    assert settings.url("identity", "/v3") == "http://127.0.0.1:15000/v3"
    assert settings.public_url("identity", "/v3") == "http://127.0.0.1:15001/identity/v3"
    assert settings.database("glance") == f"sqlite:///{settings.directory}/data/glance.db?plugin=atoll"
    relaxed = replace(settings, durability="relaxed")
    assert relaxed.database("glance") == f"sqlite:///{settings.directory}/data/glance.db?plugin=atoll&durability=relaxed"


def test_file_holds_nothing_but_plain_data(settings):
    settings.directory.mkdir()
    settings.save()
    data = json.loads((settings.directory / "settings.json").read_text())
    assert set(data) == {"site", "directory", "templates", "host", "ports", "secrets", "region", "debug"} | {
        "transport_url",
        "control",
        "address",
        "trust",
        "homed",
        "cloud",
        "hypervisor",
        "network",
        "datapath",
        "two_zones",
        "outside",
        "forwards",
        "network_services",
        "realm",
        "lists",
        "discovery",
        "announce",
        "cloudlet_cache_gib",
        "cloudlet_memory_keys",
        "engine",
        "server",
        "shares",
        "sharing",
        "groups",
        "database_users",
        "database_port",
        "durability",
        "traffic",
        "trace",
    }

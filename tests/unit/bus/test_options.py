"""The options: their defaults, their limits, and their place in a service's configuration."""

import os
import tempfile
from pathlib import Path

import pytest
from oslo_config import cfg, generator

from atoll.bus import options

NAMES = [option.name for option in options.OPTIONS]


@pytest.fixture
def group():
    made = cfg.ConfigOpts()
    made([])
    return made, options.register(made)


def test_all_have_a_name_of_their_own_and_a_help():
    assert len(set(NAMES)) == len(NAMES)
    assert [option.name for option in options.OPTIONS if not option.help] == []


def test_nothing_is_looked_for_in_the_network_unless_asked(group):
    _, chosen = group
    assert (chosen.multicast_scouting, chosen.listen, chosen.tls, chosen.mode) == (False, [], False, "peer")


def test_registered_twice_is_registered_once(group):
    made, _ = group
    assert options.register(made).lease == 10


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mode", "router"),
        ("selection", "random"),
        ("default_retries", -2),
        ("retry_interval", 0),
        ("question_interval", 0),
        ("lost_server_timeout", -1),
        ("lease", 0),
        ("seen_per_sender", 1),
        ("outbox_size_mb", 0),
        ("tls", "perhaps"),
    ],
)
def test_value_out_of_range_is_refused(group, name, value):
    with pytest.raises(ValueError, match=r"(?i)valid|choices|should be|bool"):
        group[0].set_override(name, value, options.GROUP)


def test_directories_are_of_this_user(monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    monkeypatch.setenv("XDG_STATE_HOME", "/srv/ann/state")
    assert options.default_socket_dir() == "/run/user/7/oslo-zenoh"
    assert options.default_outbox_dir() == "/srv/ann/state/oslo-zenoh"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/srv/ann")
    assert options.default_socket_dir() == f"{tempfile.gettempdir()}/oslo-zenoh-{os.getuid()}"
    assert options.default_outbox_dir() == "/srv/ann/.local/state/oslo-zenoh"


def test_none_is_not_a_directory():
    assert options.directory("none", "/default") is None
    assert options.directory("", "/default") == Path("/default")
    assert options.directory("/given", "/default") == Path("/given")


def test_oslo_config_generator_finds_them(capsys):
    made = cfg.ConfigOpts()
    generator.register_cli_opts(made)
    made(["--namespace", "oslo.messaging.zenoh"])
    generator.generate(made)
    written = capsys.readouterr().out
    assert f"[{options.GROUP}]" in written
    assert [name for name in NAMES if f"#{name} =" not in written] == []

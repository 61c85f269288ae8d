"""Tunnels between sites of a switch in user space."""

from dataclasses import replace
from pathlib import Path

import pytest

from atoll.services.neutron.network_services import bagpipe, underlay


@pytest.fixture
def real(settings):
    return replace(settings, network="ovs", outside="10.77.0.129/25", forwards=True)


def test_needed_where_the_switch_is_in_user_space_and_there_is_a_wan(real):
    assert underlay.is_needed(real)
    assert not underlay.is_needed(replace(real, datapath="system"))
    assert not underlay.is_needed(replace(real, forwards=False))


def test_local_addresses_are_asked_for_somewhere_before_the_first_rule_goes(real, monkeypatch):
    """Else the site would be unreachable for a moment, or for good if this process died then."""
    done = []
    monkeypatch.setattr(underlay, "_run", lambda *command, check=True: done.append(" ".join(command)))
    monkeypatch.setattr(underlay, "_hardware_address", lambda _interface: "02:00:00:00:00:01")
    monkeypatch.setattr(Path, "write_text", lambda _path, _text, encoding: None)
    underlay.create(real)
    rules = [command for command in done if command.startswith("ip rule")]
    assert rules[0] == "ip rule add pref 5 lookup local"
    assert rules[-1] == "ip rule delete pref 0"
    assert done[-1].endswith("ovs/route/add 10.77.0.0/16 br-ex 169.254.47.1")


def test_tunnels_end_at_an_address_of_the_bridge(real):
    [text] = bagpipe.configuration(real).values()
    assert "dataplane_local_address = 10.77.0.129\n" in text
    [alone] = bagpipe.configuration(replace(real, outside="")).values()
    assert f"dataplane_local_address = {real.own_address}\n" in alone

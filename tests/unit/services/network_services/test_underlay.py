"""How tunnels of a switch in user space get from site to site."""

from dataclasses import replace
from pathlib import Path

import pytest

from atoll.services.network_services import bagpipe, underlay


@pytest.fixture
def real(settings):
    return replace(settings, network="ovs", outside="10.77.0.129/25", forwards=True)


def test_needed_where_the_switch_is_in_user_space_and_there_is_a_wan(real):
    assert underlay.needed(real)
    assert not underlay.needed(replace(real, datapath="system"))
    assert not underlay.needed(replace(real, forwards=False))


def test_local_addresses_are_asked_for_somewhere_before_the_first_rule_goes(real, monkeypatch):
    """Else nothing of the site could be reached for a moment, or, if this process died then, any more."""
    done = []
    monkeypatch.setattr(underlay, "_run", lambda *command, check=True: done.append(" ".join(command)))
    monkeypatch.setattr(underlay, "_hardware_address", lambda _interface: "02:00:00:00:00:01")
    monkeypatch.setattr(Path, "write_text", lambda _path, _text, encoding: None)
    underlay.lay(real)
    rules = [command for command in done if command.startswith("ip rule")]
    assert rules[0] == "ip rule add pref 5 lookup local"
    assert rules[-1] == "ip rule delete pref 0"
    assert done[-1].endswith("ovs/route/add 10.77.0.0/16 br-ex 169.254.47.1")


def test_tunnels_end_at_an_address_of_the_bridge(real):
    [text] = bagpipe.configuration(real).values()
    assert "dataplane_local_address = 10.77.0.129\n" in text
    [alone] = bagpipe.configuration(replace(real, outside="")).values()
    assert f"dataplane_local_address = {real.own_address}\n" in alone

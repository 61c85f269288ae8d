"""Hand-offs of real guests with their memory: a counter in memory goes on at the other site, and where it was if the hand-off fails."""

from __future__ import annotations

import re

import pytest
from deployment import until
from landscape import PATIENCE_S, Guest, Landscape
from test_handoff_guests import handoff, running
from test_memory_guests import new

__all__ = ["new"]

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("new")]

COUNTS = "#!/bin/sh\n(n=0; while :; do n=$((n+1)); echo count: $n; sleep 1; done) >/dev/console &\n"


def counter(paris: Landscape, name: str) -> Guest:
    """Boot a guest that counts seconds on its console, in a variable of a process."""
    network = [{"uuid": paris.network}]
    guest = paris.boot(name, script=COUNTS, networks=network, security_groups=[{"name": paris.group}])
    guest.await_console("count: 5\r?\n")
    return guest


def counts(guest: Guest) -> list[int]:
    return [int(each) for each in re.findall(r"count: (\d+)\r?\n", guest.console())]


def files(landscape: Landscape, guest: Guest) -> set[str]:
    """Return the files of memory and of hand-offs that a site still has."""
    data = landscape.settings.data
    found = [*(data / "instances" / guest.id).glob("*memory*"), *(data / "cloudlet" / "arrivals").glob("*")]
    return {path.name for path in (*found, *(data / "cloudlet" / "handoffs").glob("*"))}


def test_server_goes_on_at_the_other_site_and_back(cloud, paris, nice):
    guest = counter(paris, "counts")
    before = counts(guest)[-1]
    handoff(cloud, "paris", guest.name, "nice")
    assert running(cloud, guest) == ["nice"]
    until(lambda: counts(guest), "the guest counts on", PATIENCE_S)
    first = counts(guest)[0]
    assert first > before, "a guest that has booted counts from 1"
    assert "atoll-guest: ready" not in guest.console()
    assert files(paris, guest) == files(nice, guest) == set()
    handoff(cloud, "nice", guest.name, "paris")
    until(lambda: counts(guest), "the guest counts on", PATIENCE_S)
    assert counts(guest)[0] > first
    guest.act(reboot={"type": "HARD"})
    guest.await_status("ACTIVE")
    guest.await_console("count: 1\r?\n")
    guest.delete()


def test_server_whose_start_fails_at_the_destination_goes_on_where_it_was(cloud, paris, nice):
    guest = counter(paris, "returns")
    before = counts(guest)[-1]
    service = nice.api.expect("compute", "GET", "/os-services?binary=nova-compute")["services"][0]["id"]
    nice.api.expect("compute", "PUT", f"/os-services/{service}", {"status": "disabled"})
    with pytest.raises(AssertionError, match="error: nice can't create the server"):
        handoff(cloud, "paris", guest.name, "nice")
    nice.api.expect("compute", "PUT", f"/os-services/{service}", {"status": "enabled"})
    guest.await_status("ACTIVE")
    assert running(cloud, guest) == ["paris"]
    until(lambda: counts(guest), "the guest counts on", PATIENCE_S)
    assert counts(guest)[0] > before, "it has not booted"
    assert files(paris, guest) == files(nice, guest) == set()
    guest.delete()

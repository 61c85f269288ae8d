"""Services that are up after a step of the clock, with upstream's real driver."""

import pytest
from upstream import inside

LOOK = """
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    import datetime, time
    from types import SimpleNamespace
    from unittest import mock
    from nova.conf import CONF
    CONF([], project="nova", default_config_files=[])
    from nova import servicegroup
    from oslo_utils import timeutils
    from atoll.services.patches.keystone.clock import Now
    from atoll.services.patches.nova import heartbeats

    if sys.argv[1] == "ours":
        heartbeats.install()
    up = servicegroup.API().service_is_up
    driver = servicegroup.API()._driver
    right = time.time
    clock = SimpleNamespace(ahead=0)
    found = {}

    def at(seconds_ago, as_text=False):
        seen = datetime.datetime.fromtimestamp(right() + clock.ahead - seconds_ago, datetime.UTC)
        return {"host": "paris", "binary": "nova-compute", "last_seen_up": seen.replace(tzinfo=None).isoformat() if as_text else seen}

    timeutils.set_time_override(Now(lambda: int(time.time() * 10**9)))
    with mock.patch("time.time", lambda: right() + clock.ahead):
        for way, ahead in (("ahead", 3600), ("back", 0)):
            fresh, text, dead = at(5), at(5, as_text=True), at(300)
            driver._report_state(SimpleNamespace(service_ref=mock.Mock(report_count=0)))
            before = up(fresh), up(dead)
            clock.ahead = ahead
            found[way] = [*before, up(fresh), up(text) if sys.argv[1] == "ours" else None, up(dead), up(at(5))]
    tell(found)
"""


@pytest.mark.parametrize("way", ["ahead", "back"])
def test_a_service_that_was_up_before_the_clock_was_set_is_up(way):
    assert inside(LOOK, "ours")[way] == [True, False, True, True, False, True]


def test_upstream_still_needs_it():
    found = inside(LOOK, "upstream")
    assert found["ahead"][2] is False
    assert found["back"][2] is False

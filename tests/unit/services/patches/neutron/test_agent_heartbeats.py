"""Agents that are alive after a step of the clock, with upstream's real function and model."""

import pytest
from upstream import inside

LOOK = """
    import time
    from unittest import mock
    from datetime import timedelta
    from neutron.common import config
    config.register_common_config_options()
    from neutron.conf.agent.database import agents_db
    agents_db.register_db_agents_opts()
    from neutron.db.models import agent
    from oslo_utils import timeutils
    from atoll.services.patches.keystone.clock import Now
    from atoll.services.patches.neutron import agent_heartbeats

    timeutils.set_time_override(Now(lambda: int(time.time() * 10**9)))
    if sys.argv[1] == "ours":
        agent_heartbeats.install()
    right, ahead = time.time, 0

    def alive(seconds_ago):
        return agent.Agent(heartbeat_timestamp=timeutils.utcnow() - timedelta(seconds=seconds_ago)).is_active

    with mock.patch("time.time", lambda: right() + ahead):
        found = [alive(5), alive(300)]
        old = [agent.Agent(heartbeat_timestamp=timeutils.utcnow() - timedelta(seconds=ago)) for ago in (5, 300)]
        ahead = 3600
        found += [each.is_active for each in old] + [alive(5)]
    tell(found)
"""


@pytest.mark.parametrize(("whose", "kept"), [("ours", True), ("upstream", False)])
def test_an_agent_that_was_alive_before_the_clock_was_set_is_alive(whose, kept):
    assert inside(LOOK, whose) == [True, False, kept, False, True]

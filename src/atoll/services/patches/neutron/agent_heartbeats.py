"""ML2/OVS agents that stay alive when the clock is set.

Neutron considers an agent dead if its last heartbeat is more than `agent_down_time` ago, by the time of day (`is_agent_down` in
neutron/agent/common/utils.py), and binds no port to it. When a site's clock is set ahead, all agents are dead until they report again,
half a minute later; servers that are booted meanwhile end in ERROR. Here an agent that was alive by the clock before the step stays alive
for as long as its last heartbeat may date from before the step.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from neutron.agent.common import utils
from oslo_config import cfg

from atoll.services.clock_steps import ClockSteps


def with_clock_steps(is_agent_down: Callable[[datetime], bool], clock: ClockSteps) -> Callable[[datetime], bool]:
    """Wrap upstream's function with the recent steps of the clock.

    Args:
        is_agent_down: returns whether an agent is dead, by the time of its last heartbeat.
        clock: the steps of the clock, updated at each call.
    """

    def look(heart_beat_time: datetime) -> bool:
        ahead = clock.since(cfg.CONF.agent_down_time)
        return is_agent_down(heart_beat_time) and all(is_agent_down(heart_beat_time + timedelta(seconds=each)) for each in ahead)

    return look


def install() -> None:
    """Have Neutron's server use the wrapped function; all callers look it up in its module."""
    utils.is_agent_down = with_clock_steps(utils.is_agent_down, ClockSteps())

"""Agents of ML2/OVS that stay alive when the clock is set.

Neutron takes an agent for down if its last heartbeat is more than `agent_down_time` ago, by the time of day (`is_agent_down` in
neutron/agent/common/utils.py), and binds no port to it. When the clock of a site is set ahead, all agents are down until they report again,
half a minute later; servers that are booted meanwhile end in ERROR. Extended: an agent that was alive by the clock as it went before it was
set is alive, as long as its heartbeat may be from then.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from neutron.agent.common import utils
from oslo_config import cfg

from atoll.services.set_clock import SetClock


def steady(is_agent_down: Callable[[datetime], bool], clock: SetClock) -> Callable[[datetime], bool]:
    """Put the history of the clock around upstream's function.

    Args:
        is_agent_down: whether an agent is, by its last heartbeat.
        clock: looked at each time.
    """

    def look(heart_beat_time: datetime) -> bool:
        ahead = clock.since(cfg.CONF.agent_down_time)
        return is_agent_down(heart_beat_time) and all(is_agent_down(heart_beat_time + timedelta(seconds=each)) for each in ahead)

    return look


def install() -> None:
    """Have Neutron's server use it: all that ask call it by its module."""
    utils.is_agent_down = steady(utils.is_agent_down, SetClock())

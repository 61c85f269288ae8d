"""Clients of other services that do not wait for a clock to catch up.

Each adapter of keystoneauth1 paces its requests (`FairSemaphore` in keystoneauth1/_fair_semaphore.py) by the time of day, even if no pace
is set: a request waits until the moment at which the adapter was made. If the clock is set back by an hour, every request of each earlier
adapter waits for an hour, and with it the boot or the API call that needs it. Here `__init__` and `_wait_for_execution` use the monotonic
clock.
"""

from __future__ import annotations

import time
from types import SimpleNamespace

from keystoneauth1 import _fair_semaphore


def install() -> None:
    """Have all adapters that are made from now on use the monotonic clock."""
    _fair_semaphore.time = SimpleNamespace(time=time.monotonic, sleep=time.sleep)

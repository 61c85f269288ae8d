"""Clients of other services that don't wait for a clock to catch up.

Each adapter of keystoneauth1 paces its requests (`FairSemaphore` in keystoneauth1/_fair_semaphore.py), and does so by the time of day, also
when there is nothing to pace: a request waits until the moment at which the adapter was made. If the clock is set back by an hour, every
request of every adapter made before waits for an hour, and with it the boot or the API call that needs it. Replaced: the clock that
`__init__` and `_wait_for_execution` look at, which is now the monotonic one.
"""

from __future__ import annotations

import time
from types import SimpleNamespace

from keystoneauth1 import _fair_semaphore


def install() -> None:
    """Have all adapters that are made from now on go by the monotonic clock."""
    _fair_semaphore.time = SimpleNamespace(time=time.monotonic, sleep=time.sleep)

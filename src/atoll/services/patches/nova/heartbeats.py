"""Services of Nova that stay up when the clock is set.

Nova considers a service down if its last heartbeat differs by more than `[DEFAULT] service_down_time` from now, in either direction, by
the time of day (`DbDriver.is_up` in nova/servicegroup/drivers/db.py). When a site's clock is set by an hour, all its hosts are down until
they report again, ten seconds later; a boot that was accepted meanwhile ends in ERROR. Here a service that was up by the clock before the
step stays up for as long as its last heartbeat may date from before the step.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from nova.servicegroup import api
from nova.servicegroup.drivers import db
from oslo_utils import timeutils

from atoll.services.clock_steps import ClockSteps


class SteadyDriver(db.DbDriver):
    """Nova's database driver of service groups, which also considers the recent steps of the clock."""

    _clock: ClockSteps

    def is_up(self, service_ref: Any) -> bool:
        """Return whether the last heartbeat of a service is recent, by the clock as it is or as it was."""
        ahead = self._clock.since(self.service_down_time)
        return super().is_up(service_ref) or any(super(SteadyDriver, self).is_up(_moved(service_ref, each)) for each in ahead)

    def _report_state(self, service: Any) -> None:
        self._clock.since(self.service_down_time)
        super()._report_state(service)


def _moved(service_ref: Any, seconds: float) -> dict[str, Any]:
    """Return a service with its dates moved from a clock that was behind this one."""
    seen = service_ref.get("last_seen_up") or service_ref["created_at"]
    seen = timeutils.parse_strtime(seen) if isinstance(seen, str) else seen  # from a conductor of another process
    return {"last_seen_up": seen + timedelta(seconds=seconds), "host": service_ref.get("host"), "binary": service_ref.get("binary")}


def install() -> None:
    """Have Nova's services use `SteadyDriver` (nova/servicegroup/api.py)."""
    SteadyDriver._clock = ClockSteps()
    api._driver_name_class_mapping["db"] = f"{__name__}.{SteadyDriver.__name__}"

"""Services of Nova that stay up when the clock is set.

Nova takes a service for down if its last heartbeat is more than `[DEFAULT] service_down_time` away from now, before or after it, by the
time of day (`DbDriver.is_up` in nova/servicegroup/drivers/db.py). When the clock of a site is set by an hour, all its hosts are down until
they report again, ten seconds later; a boot that was accepted meanwhile ends in ERROR. Extended: a service that was up by the clock as it
went before it was set is up, as long as its heartbeat may be from then.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from nova.servicegroup import api
from nova.servicegroup.drivers import db
from oslo_utils import timeutils

from atoll.services.set_clock import SetClock


class SteadyDriver(db.DbDriver):  # type: ignore[misc]
    """Upstream's driver, for clocks that are set."""

    _clock: SetClock

    def is_up(self, service_ref: Any) -> bool:
        """Return whether the last heartbeat of a service is recent."""
        ahead = self._clock.since(self.service_down_time)
        return super().is_up(service_ref) or any(super(SteadyDriver, self).is_up(_moved(service_ref, each)) for each in ahead)

    def _report_state(self, service: Any) -> None:
        self._clock.since(self.service_down_time)
        super()._report_state(service)


def _moved(service_ref: Any, seconds: float) -> dict[str, Any]:
    """A service whose dates are of a clock that was so far behind this one."""
    seen = service_ref.get("last_seen_up") or service_ref["created_at"]
    seen = timeutils.parse_strtime(seen) if isinstance(seen, str) else seen  # it came from a conductor elsewhere
    return {"last_seen_up": seen + timedelta(seconds=seconds), "host": service_ref.get("host"), "binary": service_ref.get("binary")}


def install() -> None:
    """Have Nova's services use it (nova/servicegroup/api.py)."""
    SteadyDriver._clock = SetClock()
    api._driver_name_class_mapping["db"] = f"{__name__}.{SteadyDriver.__name__}"

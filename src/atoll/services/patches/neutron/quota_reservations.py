"""Reservations of quota, kept in memory instead of in the database.

While a request creates a resource, Neutron's quota driver keeps a reservation in the database, which other requests count as used. This
takes nine statements and two commits for each new resource. If a single process uses the database, a reservation need not outlive the
process, so it is kept here. Limits, counts of resources and errors stay upstream's. The driver keeps its class, because Neutron offers the
API extension `quota_details` only for its own drivers, by name.
"""

from __future__ import annotations

import datetime
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from neutron.db.quota import api as quota_api
from neutron.db.quota.driver_nolock import DbQuotaNoLockDriver
from neutron.quota.resource import TrackedResource
from neutron_lib import exceptions
from neutron_lib.db import api as db_api
from oslo_utils import timeutils

KEPT_S = quota_api.RESERVATION_EXPIRATION_TIMEOUT
"""Seconds after which a reservation no longer counts, if its request neither commits nor cancels it."""


class Reservations:
    """The reservations of all projects.

    Args:
        clock: returns the seconds of a monotonic clock.

    Attributes:
        lock: the lock under which a request compares the quota with what exists and is reserved, and reserves.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.lock = threading.RLock()
        self._clock = clock
        self._kept: dict[str, tuple[float, Any]] = {}

    def add(self, project_id: str, deltas: Mapping[str, int]) -> Any:
        """Add a reservation of some amounts of resources, and return it."""
        expiration = timeutils.utcnow() + datetime.timedelta(seconds=KEPT_S)
        made = quota_api.ReservationInfo(str(uuid.uuid4()), project_id, expiration, dict(deltas))
        with self.lock:
            self._kept[made.reservation_id] = (self._clock() + KEPT_S, made)
        return made

    def remove(self, reservation_id: str) -> None:
        """Remove a reservation, if it is there."""
        with self.lock:
            self._kept.pop(reservation_id, None)

    def of(self, project_id: str) -> Counter[str]:
        """Return the reserved amount of each resource of a project, and forget expired reservations."""
        held: Counter[str] = Counter()
        with self.lock:
            now = self._clock()
            self._kept = {key: (end, each) for key, (end, each) in self._kept.items() if end > now}
            for _end, each in self._kept.values():
                if each.project_id == project_id:
                    held.update(each.deltas)
        return held


RESERVED = Reservations()
"""The reservations of this process."""


def make_reservation(
    self: Any, context: Any, project_id: str, resources: Mapping[str, Any], deltas: Mapping[str, int], _plugin: Any
) -> Any:
    """Reserve resources, and return the reservation.

    Raises:
        OverQuota: the resources that exist, those that are reserved and the requested ones together exceed a limit.
    """
    limits = self.get_project_quotas(context, resources, project_id)
    limited = [name for name in deltas if limits[name] > quota_api.UNLIMITED_QUOTA]
    with RESERVED.lock:
        # Reservations are read before resources are counted: a resource that is created in between counts twice, and never not at all.
        held = RESERVED.of(project_id)
        overs = [name for name in limited if limits[name] < _used(self, context, project_id, resources, name) + held[name] + deltas[name]]
        if overs:
            raise exceptions.OverQuota(overs=sorted(overs))
        return RESERVED.add(project_id, deltas)


def _used(driver: Any, context: Any, project_id: str, resources: Mapping[str, Any], name: str) -> int:
    resource = resources[name]
    if isinstance(resource, TrackedResource):
        return int(driver.get_resource_count(context, project_id, resource))
    return int(driver.get_resource_usage(context, project_id, resources, name) or 0)


def remove_reservation(_self: Any, _context: Any, reservation_id: str) -> None:
    """Remove the reservation of a request that created its resources, or failed to."""
    RESERVED.remove(reservation_id)


def adding_reserved(upstream: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Wrap the driver's `get_detailed_project_quotas`, so that it reports these reservations.

    Args:
        upstream: upstream's method.
    """

    @wraps(upstream)
    def get_detailed_project_quotas(self: Any, context: Any, resources: Any, project_id: str) -> dict[str, Any]:
        held = RESERVED.of(project_id)
        found = upstream(self, context, resources, project_id)
        for name, amount in held.items():
            if name in found:
                found[name]["reserved"] += amount
        return found

    return get_detailed_project_quotas


def install() -> None:
    """Have the driver keep its reservations in memory. No other process may use the database."""
    DbQuotaNoLockDriver.make_reservation = db_api.retry_if_session_inactive()(make_reservation)
    DbQuotaNoLockDriver.commit_reservation = remove_reservation
    DbQuotaNoLockDriver.cancel_reservation = remove_reservation
    DbQuotaNoLockDriver.get_detailed_project_quotas = adding_reserved(DbQuotaNoLockDriver.get_detailed_project_quotas)

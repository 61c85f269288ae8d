"""The time until all sites show the same data: after one change, and after thousands of changes during a separation."""

from __future__ import annotations

import statistics
import threading
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from atoll.bench.api import Api
from atoll.bench.cloud.stage import MeasuredCloud
from atoll.bench.failure import failed
from atoll.bench.progress import Say
from atoll.bench.waiting import wait_until

_LOOK_S = 0.01
_PATIENCE_S = 120.0


def identity(cloud: MeasuredCloud, times: int) -> dict[str, float]:
    """Return the median time from the answer to a change at one site until all other sites show the change, in milliseconds.

    Args:
        cloud: the cloud that is measured.
        times: the number of changes.
    """
    samples = []
    for number in range(times):
        origin = cloud.names[number % len(cloud.names)]
        user = _make_user(cloud.api(origin), f"seen-{uuid.uuid4().hex}")
        begun = time.monotonic()
        watchers = [threading.Thread(target=_await_user, args=(cloud.api(name), user)) for name in cloud.names if name != origin]
        for watcher in watchers:
            watcher.start()
        for watcher in watchers:
            watcher.join()
        samples.append((time.monotonic() - begun) * 1000)
        cloud.api(origin).expect("identity", "DELETE", f"/users/{user}")
    return {"identity_ms": round(statistics.median(samples), 1)}


def _await_user(api: Api, user: str) -> None:
    wait_until(lambda: api.call("identity", "GET", f"/users/{user}").status == 200, f"user {user} is seen", _PATIENCE_S, _LOOK_S)


def _make_user(api: Api, name: str) -> str:
    body = {"user": {"name": name, "domain_id": "default"}}
    return str(api.expect("identity", "POST", "/users", body)["user"]["id"])


def after_separation(cloud: MeasuredCloud, apart_s: float, changes: int, say: Say) -> dict[str, Any]:
    """Separate two halves of the cloud, make changes on both sides, and return the seconds from the heal until all sites show all changes.

    Args:
        cloud: the cloud that is measured.
        apart_s: the least length of the separation, in seconds.
        changes: the number of changes on each side: a quarter of them create a user, the others change a user.
        say: called with a line about the progress.
    """
    left, right = cloud.names[0], cloud.names[-1]
    half = len(cloud.names) // 2
    pairs = [(first, second) for first in cloud.names[:half] for second in cloud.names[half:]]
    for first, second in pairs:
        cloud.wan.cut(f"{first}:{second}")
    begun = time.monotonic()
    with ThreadPoolExecutor(2) as sides:
        running = {site: sides.submit(_change, cloud.api(site), site, changes) for site in (left, right)}
        made = {site: users.result() for site, users in running.items()}
    say(f"{2 * changes} changes are made; the halves have been separated for {apart_s:.0f} s")
    time.sleep(max(0.0, apart_s - (time.monotonic() - begun)))
    for first, second in pairs:
        cloud.wan.heal(f"{first}:{second}")
    healed = time.monotonic()
    wait_until(lambda: all(_agrees(cloud.api(site), made) for site in (left, right)), "both sides have all changes", _PATIENCE_S, 0.2)
    return {"converge_s": round(time.monotonic() - healed, 2), "converged_changes": 2 * changes, "apart_s": apart_s}


def _change(api: Api, site: str, changes: int) -> dict[str, str]:
    """Create users and change their descriptions, until `changes` requests were made.

    Returns:
        The final description of each user, by the user's name.
    """
    made = [_make_user(api, f"{site}-{number}") for number in range(changes // 4)]
    wanted: dict[str, str] = {}
    for number in range(changes - len(made)):
        user = made[number % len(made)]
        wanted[user] = f"of {site}, {number}"
        api.expect("identity", "PATCH", f"/users/{user}", {"user": {"description": wanted[user]}})
    return wanted


def _agrees(api: Api, made: dict[str, dict[str, str]]) -> bool:
    """Return whether a site shows the final descriptions of all users that were created at each site.

    Keystone reads at most a thousand users before it filters by name, so the experiment must create fewer.
    """
    for site, wanted in made.items():
        answer = api.call("identity", "GET", f"/users?name__startswith={site}-")
        if not answer.ok:
            raise failed(f"GET /users: HTTP {answer.status}")
        found = {user["id"]: user.get("description") for user in answer.body["users"]}
        if any(found.get(user) != description for user, description in wanted.items()):
            return False
    return True


def spread(count: int, names: Sequence[str]) -> dict[str, int]:
    """Divide a number among the sites as evenly as possible."""
    return {name: count // len(names) + (number < count % len(names)) for number, name in enumerate(names)}

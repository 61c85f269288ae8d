"""How fast sites come to agree: one change, and thousands after a separation."""

from __future__ import annotations

import statistics
import threading
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from atoll.bench.api import Api
from atoll.bench.cloud.stage import Stage
from atoll.bench.measure import Say, failed, wait_until

_LOOK_S = 0.01
_PATIENCE_S = 120.0


def identity(stage: Stage, times: int) -> dict[str, float]:
    """From the answer to a change at one site until all others show it, in milliseconds; the median of some."""
    samples = []
    for number in range(times):
        origin = stage.names[number % len(stage.names)]
        user = _make_user(stage.api(origin), f"seen-{uuid.uuid4().hex}")
        begun = time.monotonic()
        watchers = [threading.Thread(target=_await_user, args=(stage.api(name), user)) for name in stage.names if name != origin]
        for watcher in watchers:
            watcher.start()
        for watcher in watchers:
            watcher.join()
        samples.append((time.monotonic() - begun) * 1000)
        stage.api(origin).expect("identity", "DELETE", f"/users/{user}")
    return {"identity_ms": round(statistics.median(samples), 1)}


def _await_user(api: Api, user: str) -> None:
    wait_until(lambda: api.call("identity", "GET", f"/users/{user}").status == 200, f"user {user} is seen", _PATIENCE_S, _LOOK_S)


def _make_user(api: Api, name: str) -> str:
    body = {"user": {"name": name, "domain_id": "default"}}
    return str(api.expect("identity", "POST", "/users", body)["user"]["id"])


def after_separation(stage: Stage, apart_s: float, changes: int, say: Say) -> dict[str, Any]:
    """Two halves of the cloud apart, with changes on both sides; then the time until both know all of them, in seconds.

    Args:
        stage: the cloud.
        apart_s: for how long they are apart, at least.
        changes: on each side: a quarter of them make a user, the others change one.
        say: told what goes on.
    """
    left, right = stage.names[0], stage.names[-1]
    half = len(stage.names) // 2
    pairs = [(first, second) for first in stage.names[:half] for second in stage.names[half:]]
    for first, second in pairs:
        stage.wan.cut(f"{first}:{second}")
    begun = time.monotonic()
    with ThreadPoolExecutor(2) as sides:
        running = {site: sides.submit(_change, stage.api(site), site, changes) for site in (left, right)}
        made = {site: users.result() for site, users in running.items()}
    say(f"{2 * changes} changes made, apart for {apart_s:.0f} s")
    time.sleep(max(0.0, apart_s - (time.monotonic() - begun)))
    for first, second in pairs:
        stage.wan.heal(f"{first}:{second}")
    healed = time.monotonic()
    wait_until(lambda: all(_agrees(stage.api(site), made) for site in (left, right)), "both sides know all changes", _PATIENCE_S, 0.2)
    return {"converge_s": round(time.monotonic() - healed, 2), "converged_changes": 2 * changes, "apart_s": apart_s}


def _change(api: Api, site: str, changes: int) -> dict[str, str]:
    """Make users and change them.

    Returns:
        The description that each must have in the end.
    """
    made = [_make_user(api, f"{site}-{number}") for number in range(changes // 4)]
    wanted: dict[str, str] = {}
    for number in range(changes - len(made)):
        user = made[number % len(made)]
        wanted[user] = f"of {site}, {number}"
        api.expect("identity", "PATCH", f"/users/{user}", {"user": {"description": wanted[user]}})
    return wanted


def _agrees(api: Api, made: dict[str, dict[str, str]]) -> bool:
    """True if a site shows what was made at each.

    Keystone reads a thousand users at most, of all that there are, before it looks at their names: those made here must be fewer.
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
    """So many things over the sites, as evenly as can be."""
    return {name: count // len(names) + (number < count % len(names)) for number, name in enumerate(names)}

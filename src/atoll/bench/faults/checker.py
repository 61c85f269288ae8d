"""The comparison of the contents of sites with the answers that clients received. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random

from atoll.bench.faults import identity_checks, resource_checks
from atoll.bench.faults.history import ResourceHistory, histories
from atoll.bench.faults.log import Attempt
from atoll.bench.faults.view import View
from atoll.bench.faults.violation import Violation

SAMPLE = 40
"""Number of images and servers that are requested from each gateway one by one. The gateways' lists are checked for all of them."""

USERS = 4
"""Number of users whose passwords are tried; each trial costs a slow hash at every site."""


def check(attempts: Sequence[Attempt], before: Sequence[View], after: Sequence[View]) -> list[Violation]:
    """Return all violations that the comparison finds.

    Args:
        attempts: the clients' log.
        before: the contents of each site before the first request, when all sites showed the same.
        after: the contents of each site now.
    """
    return list(_violations(histories(attempts), before, after))


def _violations(known: Mapping[str, ResourceHistory], before: Sequence[View], after: Sequence[View]) -> Iterator[Violation]:
    blind = [view for view in after if view.error]
    for view in blind:
        yield Violation("unhealthy", f"{view.site} could not be read: {view.error}")
    if blind:
        return
    yield from identity_checks.replicas(after)
    yield from identity_checks.passwords(after, known)
    yield from resource_checks.kept(after, known)
    yield from resource_checks.twice(after, before)
    for view in after:
        yield from identity_checks.names(view)
        yield from identity_checks.kept(view, known)
        yield from identity_checks.grants(view, known)
        yield from identity_checks.unowned(view, known, before[0])
        yield from resource_checks.unowned(view, known, before)
        yield from resource_checks.unfinished(view)
        for site in view.missing:
            yield Violation("unhealthy", f"{site} is missing from the lists of the gateway of {view.site}")


def questions(attempts: Sequence[Attempt], seed: int) -> dict[str, object]:
    """Return the resources and passwords to check at each site besides its lists, as the parameter `details` of `observe.look`.

    Args:
        attempts: the clients' log.
        seed: the seed by which a sample is chosen.
    """
    known = histories(attempts)
    asked = [
        history for history in known.values() if history.type in resource_checks.PATHS and history.id and history.existence != "unknown"
    ]
    asked = Random(seed).sample(asked, min(SAMPLE, len(asked)))
    paths = [(resource_checks.PATHS[history.type][0], resource_checks.PATHS[history.type][1] + history.id) for history in asked]
    users = [history for history in known.values() if history.type == "user" and history.existence == "exists" and _enabled(history)]
    users.sort(key=lambda history: -len([each for each in history.attempts if "password" in each.fields]))
    return {"paths": paths, "passwords": {history.id: history.values("password") for history in users[:USERS]}}


def _enabled(history: ResourceHistory) -> bool:
    return all(history.values("enabled"))

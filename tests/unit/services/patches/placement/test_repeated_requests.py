"""Requests whose transactions conflict with those of other sites, with upstream's whole application on a database of its own."""

from typing import Any

import pytest
from test_abandoned_consumers import REQUESTS
from upstream import inside

LOAD = "    application = deploy.loadapp(config)\n"
INSTALL = """
    from atoll.services.patches.placement import repeated_requests
    if sys.argv[1] == "ours":
        repeated_requests.install()
"""
CONFLICTS = (
    REQUESTS.replace(LOAD, INSTALL + LOAD)
    + """
    from types import SimpleNamespace
    import oslo_db.api
    from oslo_db.exception import DBDeadlock

    conflicts, failed, pauses, lost = int(sys.argv[2]), [], [], set()
    check = allocation._check_capacity_exceeded
    oslo_db.api.time = SimpleNamespace(sleep=lambda seconds: pauses.append((seconds, bool(failed) and failed[-1].in_transaction())))

    def conflicting(context, *arguments):
        # A transaction that has failed fails again until it is rolled back, as on Redis and Galera.
        transaction = context.session.get_transaction()
        if transaction in lost or len(failed) < conflicts:
            lost.add(transaction)
            failed.append(context.session)
            raise DBDeadlock()
        return check(context, *arguments)

    allocation._check_capacity_exceeded = conflicting
    body = give(1) if sys.argv[3] == "PUT" else {NEW: give(1), OLD: give(1)}
    status = ask(sys.argv[3], f"/allocations/{OLD}" if sys.argv[3] == "PUT" else "/allocations", body)[0]
    allocation._check_capacity_exceeded = check
    tell({"status": status, "pauses": [seconds for seconds, _ in pauses], "holding": [held for _, held in pauses],
          "used": ask("GET", f"/resource_providers/{HOST}/usages")[1]["usages"]["VCPU"],
          "again": ask("PUT", f"/allocations/{OLD}", give(1))[0]})
"""
)


def conflicting(whose: str, conflicts: int, method: str = "PUT") -> dict[str, Any]:
    found: dict[str, Any] = inside(CONFLICTS, whose, str(conflicts), method)
    return found


@pytest.mark.parametrize(("method", "used"), [("PUT", 1), ("POST", 2)])
def test_a_request_that_conflicts_ten_times_succeeds(method: str, used: int) -> None:
    found = conflicting("ours", 10, method)
    assert (found["status"], found["used"]) == (204, used)
    assert len(found["pauses"]) == 10
    assert max(found["pauses"]) <= 1
    assert not any(found["holding"]), "nobody waits for a transaction that pauses"


def test_a_request_that_always_conflicts_ends_and_leaves_nothing() -> None:
    found = conflicting("ours", 1000)
    assert (found["status"], found["used"], found["again"]) == (500, 0, 204)
    assert len(found["pauses"]) == 100


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_upstream_repeats_inside_the_failed_transaction(method: str) -> None:
    found = conflicting("upstream", 1, method)
    assert (found["status"], found["used"], len(found["pauses"])) == (500, 0, 5)
    assert all(found["holding"])

"""Requests that change allocations begin again if their transaction conflicts with one of another site.

Each claim changes the generation of its resource provider. On a database that certifies transactions when they commit, such as a shared
Redis or Galera, one of two claims made at the same time at two sites fails as a deadlock: it has to begin again. Upstream repeats only
`_set_allocations`, but since claims also change consumers, this function runs inside a larger transaction, which has failed already. So all
five repetitions fail, and the pauses between them, 15 s in all, keep other claims waiting. Then Placement answers 500, which Nova does not
repeat: no valid host was found. With ten boots at a time at two sites, a quarter of the servers failed.

With this patch, `_set_allocations` fails at once. Its request, whose transaction is rolled back and whose new consumers are deleted, is
carried out again from its beginning.
"""

from __future__ import annotations

from oslo_db.api import wrap_db_retry
from placement import handler
from placement.objects import allocation

REQUESTS = (
    ("/allocations", "POST"),
    ("/allocations/{consumer_uuid}", "PUT"),
    ("/allocations/{consumer_uuid}", "DELETE"),
    ("/reshaper", "POST"),
)

MOST_REPEATS = 100
"""Number of times that a request is repeated: for about a minute in all."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
"""Bounds of the pause between two attempts; it doubles, and is random up to the bound that it has reached."""


def install() -> None:
    """Have the applications that this process makes afterwards repeat requests."""
    allocation._set_allocations = allocation._set_allocations.__wrapped__
    repeat = wrap_db_retry(
        max_retries=MOST_REPEATS, retry_interval=FIRST_PAUSE_S, max_retry_interval=LONGEST_PAUSE_S, retry_on_deadlock=True
    )
    for path, method in REQUESTS:
        methods = handler.ROUTE_DECLARATIONS[path]
        methods[method] = repeat(methods[method])

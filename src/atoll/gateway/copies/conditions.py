"""Conditions on changes: Neutron's `If-Match: revision_number=R`, where the numbers differ from site to site.

A client knows the number of the copy that its gateway shows: this site's copy or, if there is none, the oldest one. The gateway compares
the condition with that copy. Then it makes a condition for each other copy from the number that the copy had when it was read, so that a
change in between is noticed there too. Pure functions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from atoll.gateway.request.call import Call

IF_MATCH = "If-Match"

_NUMBER = re.compile(r"revision_number=([0-9]{1,18})(?![0-9])")
"""Neutron accepts the number with or without quotes, and refuses two (`api_common.check_request_for_revision_constraint`)."""


def wanted_revision(call: Call) -> int | None:
    """Return the revision number on which a change depends; `None` if there is no such condition, or an invalid one."""
    if call.service != "network" or call.method not in {"PUT", "DELETE"}:
        return None
    found = _NUMBER.findall(call.headers.get(IF_MATCH, ""))
    return int(found[0]) if len(found) == 1 else None


def revision(item: Mapping[str, Any]) -> int | None:
    """Return the revision number of a copy; `None` if it shows none."""
    number = item.get("revision_number")
    return number if isinstance(number, int) else None


def shown(items: Mapping[str, Mapping[str, Any]], here: str) -> str:
    """Return the site whose copy a gateway shows to clients.

    Args:
        items: the copies, by site; at least one.
        here: the gateway's site.
    """
    return here if here in items else min(items, key=lambda site: (str(items[site].get("created_at") or ""), site))


def oldest(items: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the site with the oldest copy.

    All gateways begin conditional changes there, so that of two concurrent changes one fails at all sites.
    """
    return shown(items, "")


def conditional(call: Call, item: Mapping[str, Any]) -> Call:
    """Return a change of one copy on the condition that the copy still has the revision number that it had when it was read."""
    number = revision(item)
    if number is None:
        return call
    changed = call.with_()
    changed.headers[IF_MATCH] = f"revision_number={number}"
    return changed

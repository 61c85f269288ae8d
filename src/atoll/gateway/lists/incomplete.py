"""Decide whether a list that lacks a site is answered or refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import parse_qsl

from atoll.gateway.faults import fault
from atoll.gateway.request.call import Call, Reply
from atoll.gateway.request.headers import MISSING

LOOK_UPS: Mapping[str, frozenset[str]] = {
    "compute": frozenset(("name", "display_name", "uuid", "hypervisor_hostname_pattern")),
    "image": frozenset(("name", "id")),
    "network": frozenset(("name", "id", "floating_ip_address")),
}
"""Parameters by which clients look for one resource, by service: clients take an empty list as proof that it does not exist."""

_PAGES = frozenset(("marker", "offset"))


def looks_up(service: str, query: Sequence[tuple[str, str]]) -> bool:
    """Return whether a list request looks for one resource by its name or id.

    Args:
        service: the service of the list.
        query: the parameters.
    """
    names = {name for name, _value in query}
    return not names.isdisjoint(LOOK_UPS.get(service, ())) and names.isdisjoint(_PAGES)


def refusal(call: Call, missing: Iterable[str], here: str, *, found: bool) -> Reply | None:
    """Return the answer that replaces a list which lacks sites; `None` if the list is answered.

    Args:
        call: the client's request.
        missing: the sites that did not answer.
        here: this site.
        found: whether the lists of the other sites have any items.
    """
    names = sorted(missing)
    if not names:
        return None
    which = f"site {names[0]} does" if len(names) == 1 else f"sites {', '.join(names)} do"
    if call.strict:
        text = f"the list would be incomplete: {which} not answer {here}"
    elif not found and looks_up(call.service, parse_qsl(call.query, keep_blank_values=True)):
        text = f"nothing is found, but {which} not answer {here} and may have it"
    else:
        return None
    reply = fault(call.service, 503, text, here)
    reply.headers[MISSING] = ",".join(names)
    return reply

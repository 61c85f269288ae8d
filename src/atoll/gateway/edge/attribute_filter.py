"""The query parameters of lists that ETSI GS MEC 009 defines: a filter by attributes, and the choice of complex attributes.

A filter has conditions, joined by `;`, such as `(eq,appName,fire_map);(in,operationState,STARTED,STOPPED)`. An item must meet all of them.
An attribute is named by a path of names, joined by `/`. If the path leads into an array, one matching element is enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from atoll.gateway.edge.problem import invalid

PARAMETERS = frozenset(("filter", "all_fields", "fields", "exclude_fields", "exclude_default"))
"""The parameters of the query of a list."""

MOST_CONDITIONS = 16
"""Greatest number of conditions of a filter."""

_CONDITION = re.compile(r"\(([a-z]+),([A-Za-z_][A-Za-z0-9_/]*),([^()]*)\)")
_ORDERED = ("gt", "gte", "lt", "lte")
_SEVERAL = ("in", "nin", "cont", "ncont")
_EXPECTED = "expected conditions such as (eq,attribute,value), joined by a semicolon"

Condition = tuple[str, Sequence[str], Sequence[str]]
"""An operator, the path of an attribute, and the values."""


def selected(items: Iterable[Mapping[str, Any]], query: Mapping[str, str], required: frozenset[str] = frozenset()) -> list[dict[str, Any]]:
    """Return the items that pass the filter of a query, with the attributes that the query selects.

    Args:
        items: the items of a list in the standard's form.
        query: the parameters; others than `PARAMETERS` are ignored.
        required: the names of attributes that are always present.

    Raises:
        Problem: the filter is malformed, or two parameters contradict each other.
    """
    conditions = conditions_of(query)
    chosen = [name for name in ("all_fields", "fields", "exclude_fields", "exclude_default") if name in query]
    if len(chosen) > 1 and chosen != ["fields", "exclude_default"]:
        raise invalid(f"the query has both {chosen[0]} and {chosen[1]}: expected one of them")
    names = set(query.get(chosen[0], "").split(",")) if chosen and chosen[0].endswith("fields") else set()

    def kept(name: str, value: Any) -> bool:
        if name in required or not isinstance(value, list | dict) or not chosen:
            return True
        return name not in names if chosen[0] == "exclude_fields" else chosen[0] != "fields" or name in names

    return [{name: value for name, value in item.items() if kept(name, value)} for item in items if meets(item, conditions)]


def conditions_of(query: Mapping[str, str]) -> Sequence[Condition]:
    """Return the conditions of the filter of a query; none if the query has no filter.

    Raises:
        Problem: the filter is malformed.
    """
    return _conditions(query["filter"]) if "filter" in query else ()


def meets(item: Mapping[str, Any], conditions: Iterable[Condition]) -> bool:
    """Return whether an item meets all conditions."""
    return all(_holds(item, each) for each in conditions)


def _conditions(text: str) -> list[Condition]:
    """Return the conditions of a filter.

    Raises:
        Problem: the filter is malformed.
    """
    found: list[Condition] = []
    for part in text.split(";"):
        match = _CONDITION.fullmatch(part)
        if match is None or match[1] not in {"eq", "neq", *_ORDERED, *_SEVERAL}:
            raise invalid(f"the filter is malformed: {_EXPECTED}")
        values = match[3].split(",")
        if len(values) > 1 and match[1] not in _SEVERAL:
            raise invalid(f"the filter has several values for {match[1]}: expected one")
        found.append((match[1], match[2].split("/"), values))
    if len(found) > MOST_CONDITIONS:
        raise invalid(f"the filter has {len(found)} conditions: expected at most {MOST_CONDITIONS}")
    return found


def _holds(item: Mapping[str, Any], condition: Condition) -> bool:
    operator, path, values = condition
    found = list(_values(item, path))
    if operator in {"neq", "nin", "ncont"}:
        return not any(_matches(value, operator[1:], values) for value in found)
    return any(_matches(value, operator, values) for value in found)


def _values(item: Any, path: Sequence[str]) -> Iterator[Any]:
    """Yield the values of an attribute; none if the item has no such attribute."""
    if isinstance(item, list):
        for each in item:
            yield from _values(each, path)
    elif not path:
        if not isinstance(item, dict):
            yield item
    elif isinstance(item, dict) and path[0] in item:
        yield from _values(item[path[0]], path[1:])


def _matches(value: Any, operator: str, wanted: Sequence[str]) -> bool:
    text = ("false", "true")[value] if isinstance(value, bool) else str(value)
    if operator in {"eq", "in"}:
        return text in wanted
    if operator == "cont":
        return any(each in text for each in wanted)
    if not isinstance(value, int | float):
        return _ordered(text, wanted[0], operator)
    try:
        return _ordered(float(value), float(wanted[0]), operator)
    except ValueError:
        return False


def _ordered(left: Any, right: Any, operator: str) -> bool:
    return bool({"gt": left > right, "gte": left >= right, "lt": left < right, "lte": left <= right}[operator])

"""Reads the resources in the bodies of requests and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atoll.gateway.resolve.routes import Resource


def items_of(body: Any, resource: Resource) -> Sequence[Mapping[str, Any]]:
    """Return the resources in a body: one, or several, since Neutron accepts lists; none if the body has another form."""
    if resource.service == "image":
        return [body] if isinstance(body, dict) else []
    if not isinstance(body, dict):
        return []
    one, several = body.get(resource.item), body.get(resource.key)
    if isinstance(one, dict):
        return [one]
    return several if isinstance(several, list) and all(isinstance(each, dict) for each in several) else []

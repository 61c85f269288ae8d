"""Tags of what there isn't are not found.

Neutron's controller of tags (neutron/extensions/tagging.py) ends with a KeyError if there is no such network, port or the like, which is an
answer 500. A gateway that has all sites change a network would take that for something to be done later, for ever. Replaced: the
information about nothing, by the error that upstream has for it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from neutron.extensions import tagging


def found(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`TaggingController._get_resource_info`, of what there is.

    Args:
        upstream: the method.
    """

    @wraps(upstream)
    def get_resource_info(self: Any, context: Any, kwargs: Any, tags: Any = None) -> Any:
        information = upstream(self, context, kwargs, tags=tags)
        if information is tagging.EMPTY_RESOURCE_INFO:
            name, identifier = next(((name, kwargs[name]) for name in kwargs if name.endswith("_id")), ("", ""))
            raise tagging.TagResourceNotFound(resource=name.removesuffix("_id"), resource_id=identifier)
        return information

    return get_resource_info


def install() -> None:
    """Replace upstream's."""
    tagging.TaggingController._get_resource_info = found(tagging.TaggingController._get_resource_info)

"""Tags of what there isn't are not found.

Neutron's controller of tags (neutron/extensions/tagging.py) ends with a KeyError if there is no such network, port or the like, which is an
answer 500. A gateway that has all sites change a network would take that for something to be done later, for ever. Replaced: the
information about nothing, by the error that upstream has for it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from neutron.api import extensions
from neutron.extensions.tagging import Tagging, TagResourceNotFound


def found(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """`TaggingController._get_resource_info`, of what there is.

    Args:
        upstream: the method.
    """

    @wraps(upstream)
    def get_resource_info(self: Any, context: Any, kwargs: Any, tags: Any = None) -> Any:
        information = upstream(self, context, kwargs, tags=tags)
        if information.obj_type is None:
            name, identifier = next(((name, kwargs[name]) for name in kwargs if name.endswith("_id")), ("", ""))
            raise TagResourceNotFound(resource=name.removesuffix("_id"), resource_id=identifier)
        return information

    return get_resource_info


def install() -> None:
    """Replace upstream's, once Neutron has its extensions.

    It loads a copy of each one's module, which can't be imported (neutron/api/extensions.py).
    """
    extension = extensions.PluginAwareExtensionManager.get_instance().extensions[Tagging.get_alias()]
    controller = type(extension).get_resources.__globals__["TaggingController"]
    controller._get_resource_info = found(controller._get_resource_info)

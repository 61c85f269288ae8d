"""Status 404, not 500, for tags of a resource that does not exist.

Neutron's controller of tags (neutron/extensions/tagging.py) fails with a KeyError if the resource does not exist, which is answered with
500. A gateway that has all sites change a network would retry that for ever. Here the error is upstream's own for a missing resource.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from neutron.api import extensions
from neutron.extensions.tagging import Tagging, TagResourceNotFound


def raising_not_found(upstream: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `TaggingController._get_resource_info`, so that it raises an error for a resource that does not exist.

    Args:
        upstream: upstream's method.
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
    """Wrap upstream's method, once Neutron has loaded its extensions.

    Neutron loads a copy of each extension's module, which cannot be imported (neutron/api/extensions.py).
    """
    extension = extensions.PluginAwareExtensionManager.get_instance().extensions[Tagging.get_alias()]
    controller = type(extension).get_resources.__globals__["TaggingController"]
    controller._get_resource_info = raising_not_found(controller._get_resource_info)

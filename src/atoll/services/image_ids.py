"""Ids of images that only an administrator or the site's gateway may choose.

Glance lets any member choose the id of an image that it creates, and has no policy for it (`ImagesController.create` in
glance/api/v2/images.py; the target of the policy `add_image` has no id). In a cloud of many sites an id has to mean one image: a user who
takes the id of another project's image at a site that has not got it would stand in its way. So an id is refused with 403, unless it comes
from an administrator, or a gateway vouches for it with a service token, as it does for the copies of an image that it creates at several
sites in the user's name.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import webob.exc
from glance.api.v2 import images

from atoll.identifiers import gateway_role

VOUCHES = gateway_role("image")
"""Role of the service token that vouches for an id."""


def refusing(create: Callable[..., Any]) -> Callable[..., Any]:
    """`ImagesController.create`, without ids that its caller may not choose.

    Args:
        create: upstream's.
    """

    @wraps(create)
    def created(self: Any, req: Any, image: dict[str, Any], *arguments: Any, **keywords: Any) -> Any:
        context = req.context
        if image.get("image_id") is not None and not context.is_admin and VOUCHES not in context.service_roles:
            raise webob.exc.HTTPForbidden(explanation="The id of an image is chosen by Glance: only an administrator may give one.")
        return create(self, req, image, *arguments, **keywords)

    return created


def install() -> None:
    """Have Glance, in this process, refuse such ids."""
    images.ImagesController.create = refusing(images.ImagesController.create)

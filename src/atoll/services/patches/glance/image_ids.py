"""Image ids that only an administrator or the site's gateway may choose.

Glance lets any member choose the id of an image that it creates, and has no policy for it (`ImagesController.create` in
glance/api/v2/images.py; the target of the policy `add_image` has no id). In a cloud of many sites an id must mean one image: a user could
take the id of another project's image at a site that lacks it. So an id is refused with 403 unless an administrator gives it or a gateway
vouches for it with a service token. A gateway does so when it creates copies of an image at several sites in the user's name.
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
    """Wrap `ImagesController.create`, so that it refuses ids that its caller may not choose.

    Args:
        create: upstream's method.

    Returns:
        A method that raises `HTTPForbidden` if a caller who is neither an administrator nor the gateway gives an id.
    """

    @wraps(create)
    def created(self: Any, req: Any, image: dict[str, Any], *arguments: Any, **keywords: Any) -> Any:
        context = req.context
        if image.get("image_id") is not None and not context.is_admin and VOUCHES not in context.service_roles:
            raise webob.exc.HTTPForbidden(explanation="The id of an image is chosen by Glance: only an administrator may give one.")
        return create(self, req, image, *arguments, **keywords)

    return created


def install() -> None:
    """Have Glance refuse ids that its callers may not choose, in this process."""
    images.ImagesController.create = refusing(images.ImagesController.create)

"""Clients of Glance that share the schema of an image.

Nova makes a client of Glance for each call (`GlanceClientWrapper._create_onetime_client` in nova/image/glance.py). Each client asks for
the schema of images and makes a class of it (`Controller.model` and `unvalidated_model` in glanceclient/v2/images.py), so a boot requests
the schema twice for one image. The patch replaces the two properties by ones that keep the class for ten minutes, for each endpoint.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from cachetools import TTLCache, cached
from glanceclient.v2 import images

SCHEMA_S = 600
"""Seconds for which a schema is kept; an operator may change it (schema-image.json), and restarts Glance then."""

MOST_ENDPOINTS = 16


def _shared(upstream: property) -> property:
    """Return a property that makes its value once for each endpoint."""
    make: Callable[[Any], Any] = upstream.fget  # type: ignore[assignment]  # a property of a class has a getter

    def endpoint(controller: Any) -> str:
        return str(controller.http_client.endpoint_override)

    return property(cached(TTLCache(MOST_ENDPOINTS, SCHEMA_S), key=endpoint, lock=threading.Lock())(make))


def install() -> None:
    """Have all clients of Glance in this process share their schemas."""
    images.Controller.model = _shared(images.Controller.model)
    images.Controller.unvalidated_model = _shared(images.Controller.unvalidated_model)

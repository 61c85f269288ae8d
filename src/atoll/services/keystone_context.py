"""Keystone's authentication middleware, made safe for threads.

Upstream's (`AuthContextMiddleware` in keystone/server/flask/request_processing/middleware/auth_context.py) is one object for all
requests, and keeps the token of the request that it works on in its attribute `token`: set in `fetch_token`, read again in
`fill_context`. With two requests at once, one can go on with the token of the other: an administrator's, say. Replaced: that attribute,
which is now each thread's own; `process_request` forgets it first, so that no request meets what an earlier one of its thread has left.
It also notes what is asked for, which the audit of administrators' tokens tells (`keystone_trust`): Flask's context comes later.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import Any

from keystone.server.flask import core
from keystone.server.flask.request_processing.middleware import auth_context

ASKED: ContextVar[str] = ContextVar("ASKED", default="")
"""Method and path of the request that this thread works on."""


class ThreadedAuthContextMiddleware(auth_context.AuthContextMiddleware):  # type: ignore[misc]
    """Upstream's middleware, with a token for each thread."""

    def __init__(self, app: Any) -> None:
        self._own = threading.local()
        super().__init__(app)

    @property
    def token(self) -> Any:
        """The token of the request that this thread works on; None if it has none yet."""
        return getattr(self._own, "token", None)

    @token.setter
    def token(self, token: Any) -> None:
        self._own.token = token

    def process_request(self, request: Any) -> Any:
        """Find out who asks."""
        self.token = None
        ASKED.set(f"{request.method} {request.path}")
        return super().process_request(request)


def install() -> None:
    """Put the middleware in its parent's place in the chain (keystone/server/flask/core.py, `setup_app_middleware`)."""
    core._KEYSTONE_MIDDLEWARE = tuple(
        ThreadedAuthContextMiddleware if each is auth_context.AuthContextMiddleware else each for each in core._KEYSTONE_MIDDLEWARE
    )

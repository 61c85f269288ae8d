"""A thread-safe version of Keystone's authentication middleware.

Upstream's (`AuthContextMiddleware` in keystone/server/flask/request_processing/middleware/auth_context.py) is one object for all requests,
and keeps the token of the current request in its attribute `token`: `fetch_token` sets it, `fill_context` reads it. Of two concurrent
requests, one can continue with the token of the other, such as an administrator's. Here the attribute is each thread's own, and
`process_request` clears it first, so that no request sees the token of an earlier one.

The middleware also records method and path for the audit of administrators' tokens (`trust`), because Flask's context exists only later.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import Any

from keystone.server.flask import core
from keystone.server.flask.request_processing.middleware import auth_context

ASKED: ContextVar[str] = ContextVar("ASKED", default="")
"""Method and path of this thread's request."""


class ThreadedAuthContextMiddleware(auth_context.AuthContextMiddleware):
    """Upstream's middleware with a token for each thread."""

    def __init__(self, app: Any) -> None:
        self._own = threading.local()
        super().__init__(app)

    @property
    def token(self) -> Any:
        """Token of this thread's request; `None` if it has none yet."""
        return getattr(self._own, "token", None)

    @token.setter
    def token(self, token: Any) -> None:
        self._own.token = token

    def process_request(self, request: Any) -> Any:
        """Identify the caller of a request."""
        self.token = None
        ASKED.set(f"{request.method} {request.path}")
        return super().process_request(request)


def install() -> None:
    """Replace upstream's middleware in Keystone's chain (`setup_app_middleware` in keystone/server/flask/core.py)."""
    core._KEYSTONE_MIDDLEWARE = tuple(
        ThreadedAuthContextMiddleware if each is auth_context.AuthContextMiddleware else each for each in core._KEYSTONE_MIDDLEWARE
    )

"""Hooks that record the calls of libraries: one module for each library, installed once in a process that has a recorder.

Each hook wraps a function of its library; the hook's module names the function. In a process without a recorder, or for a request that is
not recorded, the hook only calls the original function.
"""

from __future__ import annotations

import sys


def install() -> None:
    """Install the hooks of the libraries that this process has imported."""
    from atoll.trace.hooks import threads

    threads.install()
    if "requests" in sys.modules:
        from atoll.trace.hooks import http

        http.install()
    if "oslo_messaging" in sys.modules:
        from atoll.trace.hooks import rpc

        rpc.install()
    if "oslo_service.backend._threading.loopingcall" in sys.modules and "oslo_service.periodic_task" in sys.modules:
        from atoll.trace.hooks import periodic

        periodic.install()
    if "sqlalchemy" in sys.modules:
        from atoll.trace.hooks import sql

        sql.install()

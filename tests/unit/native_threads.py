"""Imports oslo.messaging as the services do: with native threads, and without eventlet."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module


def load() -> None:
    """Import oslo.messaging, before a test module does so with eventlet; other packages may import eventlet afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        blocked = "eventlet" not in sys.modules
        if blocked:
            sys.modules["eventlet"] = None  # forbids the import
        backend = import_module("oslo_service.backend")
        backend.init_backend(backend.BackendType.THREADING)
        import_module("oslo_messaging")
        if blocked:
            del sys.modules["eventlet"]

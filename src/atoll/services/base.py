"""What all services share, imported once, before any of them: the fork server of each is forked from one that has imported this."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec


class NoEventlet:
    """A finder that refuses eventlet.

    Libraries import it if they can (futurist/_utils.py does as soon as oslo.service chooses a backend), it costs memory, and Nova will not
    start with native threads once it was imported (`poison_eventlet` in nova/monkey_patch.py, which does the same for Nova alone).
    """

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """Refuse eventlet; know nothing of other modules.

        Raises:
            ImportError: eventlet, or a module of it, was asked for.
        """
        if name.partition(".")[0] == "eventlet":
            raise ImportError(f"{name} is not used: the services run with native threads", name=name)
        return None


def allow_eventlet() -> None:
    """Let eventlet be imported from now on, for a service whose own modules name it (oslo_service/wsgi.py) though it is not used."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, NoEventlet)]


def preload() -> None:
    """Import the libraries that every service uses, and settle what must be settled before any of upstream is imported."""
    # oslo.config would read this process's command line as the service's own.
    del sys.argv[1:]

    sys.meta_path.insert(0, NoEventlet())

    import oslo_service.backend

    # Native threads, chosen before anything can choose eventlet.
    oslo_service.backend.init_backend(oslo_service.backend.BackendType.THREADING)

    import webob  # noqa: F401

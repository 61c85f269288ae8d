"""What all services share, imported once, before any of them: the fork server of each is forked from one that has imported this."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec

MODULES = (
    "_strptime", "alembic", "castellan.key_manager.barbican_key_manager", "cryptography.fernet", "cryptography.hazmat.backends.openssl",
    "cryptography.hazmat.primitives.serialization.ssh", "dogpile.cache.backends.memcached", "importlib_metadata", "jinja2", "jsonschema",
    "keystoneauth1.loading._plugins.identity.generic", "keystoneauth1.session", "keystoneclient.v3.client",
    "keystonemiddleware.auth_token", "netrc", "OpenSSL.crypto", "openstack.connection",
    "oslo_cache.core", "oslo_concurrency.processutils", "oslo_config.cfg", "oslo_context.context", "oslo_db.sqlalchemy.enginefacade",
    "oslo_log.log", "oslo_messaging", "oslo_messaging.notify._impl_noop", "oslo_middleware",
    "oslo_middleware.healthcheck.disable_by_file", "oslo_policy.policy", "oslo_reports.guru_meditation_report", "oslo_utils.timeutils",
    "oslo_versionedobjects.base", "oslo_versionedobjects.fields", "osprofiler.web", "paste.deploy", "paste.urlmap", "prettytable",
    "prometheus_client", "requests", "routes", "sqlalchemy.dialects.sqlite", "sqlalchemy.orm", "stevedore", "tenacity", "unittest.mock",
    "webob", "yaml", "atoll.bus.driver", "atoll.db.sqlite", "atoll.services.wsgi",
)  # fmt: skip
"""What the fork server common to all services imports."""


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
    # Its green resolver, and all of dnspython twice, would be imported with it.
    os.environ["EVENTLET_NO_GREENDNS"] = "yes"
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, NoEventlet)]


def preload() -> None:
    """Import the libraries that every service uses, and settle what must be settled before any of upstream is imported."""
    # oslo.config would read this process's command line as the service's own.
    del sys.argv[1:]
    sys.meta_path.insert(0, NoEventlet())

    import oslo_service.backend

    # Native threads, chosen before anything can choose eventlet.
    oslo_service.backend.init_backend(oslo_service.backend.BackendType.THREADING)
    warm(MODULES)

    from atoll.services import cache, pacing

    cache.install()
    pacing.install()


def warm(modules: Iterable[str]) -> None:
    """Import modules, and do what they would do at their first use: map tables, read the entry points of all packages.

    Whatever is done here is done once for all sites, and its memory is shared by them.

    Args:
        modules: their names; `package.*` stands for all modules of a package.
    """
    for name in modules:
        module = importlib.import_module(name.removesuffix(".*"))
        if name.endswith(".*"):
            for found in pkgutil.iter_modules(module.__path__, f"{module.__name__}."):
                importlib.import_module(found.name)

    from sqlalchemy.orm import configure_mappers
    from stevedore import _cache

    configure_mappers()
    _cache.get_group_all("oslo.messaging.drivers")

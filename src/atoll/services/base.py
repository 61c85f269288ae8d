"""Imports that all services share.

The fork server of each service is forked from a process that has imported these modules, so that their memory is shared.
"""

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
    "opentelemetry.sdk.trace", "oslo_versionedobjects.base", "oslo_versionedobjects.fields", "osprofiler.web", "paste.deploy",
    "paste.urlmap", "prettytable",
    "prometheus_client", "requests", "routes", "sqlalchemy.dialects.sqlite", "sqlalchemy.orm", "stevedore", "tenacity", "unittest.mock",
    "webob", "yaml", "atoll.bus.driver", "atoll.db.sqlite", "atoll.services.wsgi", "atoll.trace.hooks.*",
    "atoll.trace.process",
)  # fmt: skip
"""The modules that the common fork server imports."""


class NoEventlet:
    """An import finder that refuses eventlet.

    Libraries import eventlet if they can: futurist/_utils.py does so as soon as oslo.service chooses a backend. Eventlet costs memory, and
    after its import Nova does not start with native threads (`poison_eventlet` in nova/monkey_patch.py does the same for Nova alone).
    """

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """Refuse eventlet, and leave all other modules to other finders.

        Raises:
            ImportError: the import is of eventlet or one of its modules.
        """
        if name.partition(".")[0] == "eventlet":
            raise ImportError(f"{name} is not used: the services run with native threads", name=name)
        return None


def allow_eventlet() -> None:
    """Permit imports of eventlet from now on.

    Some services have modules that name it (oslo_service/wsgi.py), although they do not use it.
    """
    # Otherwise eventlet would import its green resolver, and with it a second copy of dnspython.
    os.environ["EVENTLET_NO_GREENDNS"] = "yes"
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, NoEventlet)]


def preload() -> None:
    """Import the libraries that every service uses, and set what must be set before upstream is imported."""
    # oslo.config would parse this process's command line as the service's.
    del sys.argv[1:]
    sys.meta_path.insert(0, NoEventlet())

    import oslo_service.backend

    # Native threads must be chosen before any library chooses eventlet.
    oslo_service.backend.init_backend(oslo_service.backend.BackendType.THREADING)
    warm(MODULES)

    from atoll.services.patches.shared import pacing, process_cache

    process_cache.install()
    pacing.install()


def warm(modules: Iterable[str]) -> None:
    """Import modules, and do the work that their first use would do: map tables, and read the entry points of all packages.

    All sites share the memory of the loaded modules.

    Args:
        modules: the names of the modules; `package.*` means all modules of a package.
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

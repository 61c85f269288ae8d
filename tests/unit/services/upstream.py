"""Tools with which tests inspect upstream's code.

Upstream's services share one global configuration, so no test imports one of them into its own process. Code that needs one runs in a
process of its own, forked from a process that has imported the libraries which all services use: that halves the time of a small test.
"""

from __future__ import annotations

import ast
import hashlib
import json
import multiprocessing
import os
import sys
import tempfile
import textwrap
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

LIMIT_S = 300
"""The longest that code may run, in seconds."""

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        *("alembic.command", "cryptography.fernet", "dogpile.cache", "glanceclient.v2.client", "jsonschema", "keystoneauth1.loading"),
        *("lxml.etree", "netaddr", "openstack.connection", "oslo_concurrency.lockutils", "oslo_config.generator"),
        *("oslo_db.sqlalchemy.enginefacade", "oslo_log.log", "oslo_policy.policy", "pytest", "requests", "routes"),
        *("sqlalchemy.dialects.sqlite", "sqlalchemy.orm", "stevedore", "webob.dec", "yaml"),
    ]
)


NOVA = """
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    import tempfile
    import nova.conf
    from nova import config, context, objects
    from nova.db.main import api, models

    objects.register_all()
    file = tempfile.NamedTemporaryFile(suffix=".db")
    config.parse_args(["nova"], default_config_files=[], init_rpc=False)
    nova.conf.CONF.set_override("connection", f"sqlite:///{file.name}?plugin=atoll", "database")
    api.configure(nova.conf.CONF)
    admin = context.get_admin_context()
    models.BASE.metadata.create_all(api.get_context_manager(admin).writer.get_engine())

    def flavor(memory_mb=1):
        unset = dict.fromkeys(("vcpu_weight", "created_at", "updated_at", "deleted_at", "description"))
        return objects.Flavor(id=1, name="f", memory_mb=memory_mb, vcpus=1, root_gb=1, ephemeral_gb=0, swap=0, rxtx_factor=1.0,
                              flavorid="1", extra_specs={}, is_public=True, disabled=False, deleted=False, **unset)
"""
"""Code for `inside`: Nova's real objects over its real database layer, with an empty database of one cell, and a flavor."""

NOVA_WITH_API = (
    NOVA
    + """
    from nova.db.api import api as api_api, models as api_models

    api_file = tempfile.NamedTemporaryFile(suffix=".db")
    nova.conf.CONF.set_override("connection", f"sqlite:///{api_file.name}?plugin=atoll", "api_database")
    api_api.configure(nova.conf.CONF)
    api_models.BASE.metadata.create_all(api_api.context_manager.writer.get_engine())
    objects.CellMapping.format_mq_url = objects.CellMapping.format_db_url = staticmethod(lambda url: url)
"""
)
"""As `NOVA`, with an empty database of the API too. The URLs of cells are used as they are stored."""


def inside(code: str, *arguments: str) -> Any:
    """Run code as the main module of a process of its own, and return the object that it passes to `tell(…)`, through JSON."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        process = _FORKS.Process(target=_run, args=(textwrap.dedent(code), arguments, directory, dict(os.environ)))
        process.start()
        process.join(LIMIT_S)
        if process.is_alive():
            process.kill()
            process.join()
        assert process.exitcode == 0, f"exit code {process.exitcode}: {(directory / 'errors').read_text()[-3000:]}"
        process.close()
        return json.loads((directory / "told").read_text())


def _run(code: str, arguments: tuple[str, ...], directory: Path, environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, name in ((1, "output"), (2, "errors")):
        file = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, descriptor)
        os.close(file)
    tempfile.tempdir = str(directory)
    sys.argv = ["-c", *arguments]
    sys.warnoptions[:] = ["ignore"]
    warnings.simplefilter("ignore")
    main = {"__name__": "__main__", "json": json, "sys": sys, "tell": lambda data: (directory / "told").write_text(json.dumps(data))}
    exec(compile(code, "<inside>", "exec"), main)


_KNOWN_OPTIONS = """
    from fnmatch import fnmatch
    from importlib.metadata import entry_points
    from oslo_config import cfg

    known = set()
    for point in entry_points(group="oslo.config.opts"):
        if any(fnmatch(point.name, pattern) for pattern in sys.argv[2:]):
            for group, options in point.load()():
                known |= {(str(getattr(group, "name", group) or "DEFAULT").lower(), option.dest) for option in options}
    sections = {}
    cfg.ConfigParser(sys.argv[1], sections).parse()
    tell(sorted(f"{s}.{o}" for s, options in sections.items() for o in options if (s.lower(), o) not in known))
"""


def unknown_options(file: Path, *namespaces: str) -> list[str]:
    """Return the options of a configuration file, as `SECTION.OPTION`, that upstream does not have.

    Args:
        file: the configuration file.
        namespaces: patterns of the namespaces (entry points `oslo.config.opts`) that define the known options.
    """
    found: list[str] = inside(_KNOWN_OPTIONS, str(file), *namespaces)
    return found


UNINSTALLED = "not installed"
"""The fingerprint of code whose distribution is not installed."""


def fingerprint(source: str) -> str:
    """Return eight digits that change when a function or class of upstream does; comments and docstrings do not count.

    Args:
        source: `PATH:NAME`: a file's path below `site-packages`, and a qualified name in it, such as `FakeDriver.init_host`.
    """
    path, _, name = source.partition(":")
    spec = find_spec(path.partition("/")[0])
    if spec is None or spec.origin is None:
        return UNINSTALLED
    node: ast.AST = ast.parse((Path(spec.origin).parents[1] / path).read_text(encoding="utf-8"))
    for part in name.split("."):
        found = [child for child in ast.iter_child_nodes(node) if getattr(child, "name", None) == part]
        assert found, f"{path} no longer has {name}"
        node = found[0]
    # Python 3.12 chooses other quotation marks than 3.11.
    text = ast.unparse(_without_docstring(node)).replace('"', "'")
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _without_docstring(node: ast.AST) -> ast.AST:
    body = getattr(node, "body", [])
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) and isinstance(body[0].value.value, str):
        del body[0]
    return node

"""Tools with which tests inspect upstream's code.

Upstream's services share one global configuration, so no test imports one of them into its own process.
"""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_MARK = "\x1e"


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
"""
"""Code for `inside`: Nova's real objects over its real database layer, with an empty database of one cell."""


def inside(code: str, *arguments: str) -> Any:
    """Run code in an interpreter of its own, and return the object that it passes to `tell(…)`, through JSON."""
    prelude = f"import json, sys\ndef tell(data): print({_MARK!r} + json.dumps(data))\n"
    command = [sys.executable, "-W", "ignore", "-c", prelude + textwrap.dedent(code), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.rpartition(_MARK)[2])


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

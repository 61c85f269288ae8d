"""How the tests look at upstream's code. Its services share one global configuration, so none of them is imported here."""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from importlib import metadata
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
    """What a piece of code prints as JSON with `tell(…)`, run in an interpreter of its own."""
    prelude = f"import json, sys\ndef tell(data): print({_MARK!r} + json.dumps(data))\n"
    command = [sys.executable, "-W", "ignore", "-c", prelude + textwrap.dedent(code), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.rpartition(_MARK)[2])


def fingerprint(distribution: str, path: str, name: str) -> str:
    """Eight digits that change when a function of an upstream file does; comments and docstrings do not count.

    Args:
        distribution: which has the file.
        path: of the file, from `site-packages`.
        name: of the function, with its class: `FakeDriver.init_host`.
    """
    node: ast.AST = ast.parse(Path(str(metadata.distribution(distribution).locate_file(path))).read_text(encoding="utf-8"))
    for part in name.split("."):
        found = [child for child in ast.iter_child_nodes(node) if getattr(child, "name", None) == part]
        assert found, f"{path} has no {name} any more"
        node = found[0]
    # Python 3.12 chooses other quotation marks than 3.11.
    text = ast.unparse(_without_docstring(node)).replace('"', "'")
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _without_docstring(node: ast.AST) -> ast.AST:
    body = getattr(node, "body", [])
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant) and isinstance(body[0].value.value, str):
        del body[0]
    return node


def check(distribution: str, known: Mapping[tuple[str, str], str], what: str) -> None:
    """Compare fingerprints with those of the code that ours was written against.

    Args:
        distribution: which has the files.
        known: fingerprint by path and name.
        what: must be looked at again if one differs.
    """
    found = {key: fingerprint(distribution, *key) for key in known}
    changed = {" ".join(key): value for key, value in found.items() if value != known[key]}
    assert not changed, f"upstream has changed {changed}: {what}; then put the new fingerprints here"

"""A finder of the places in a module's source that reach into upstream: writes, subclasses and callbacks."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

UPSTREAM = frozenset(
    {
        "aiohttp", "cheroot", "concurrent", "dogpile", "exabgp", "futurist", "glance", "glance_store", "glanceclient", "keystone",
        "keystoneauth1", "keystoneclient", "keystonemiddleware", "libvirt", "networking_bagpipe", "networking_bgpvpn", "networking_sfc",
        "neutron",
        "neutron_dynamic_routing", "neutron_fwaas", "neutron_lib", "neutron_taas", "neutron_vpnaas", "nova", "octavia", "openstack",
        "openstackclient", "os_brick", "os_ken", "os_vif", "osc_lib", "oslo_cache", "oslo_concurrency", "oslo_config", "oslo_context",
        "oslo_db", "oslo_log", "oslo_messaging", "oslo_middleware", "oslo_policy", "oslo_privsep", "oslo_service", "oslo_utils",
        "ovn_octavia_provider", "ovs", "ovsdbapp", "placement", "pyroute2", "requests", "sqlalchemy", "sqlite3", "stevedore", "tempfile",
        "vif_plug_ovs", "webob", "werkzeug",
    }
)  # fmt: skip
"""Top-level packages whose objects are upstream's; of the standard library, those that Atoll patches."""

HOOKS = frozenset(
    {
        "dogpile.cache.register_backend",
        "neutron_lib.callbacks.registry.subscribe",
        "nova.objects.base.NovaObjectRegistry.register",
        "oslo_policy.policy.register",
        "oslo_utils.timeutils.set_time_override",
        "sqlalchemy.event.listen",
        "sqlalchemy.event.listens_for",
    }
)
"""Functions of upstream that take a callback or a class."""

ERRORS = ("Error", "Exception", "Failure", "Timeout")
"""Suffixes of the names of exceptions, whose subclasses change nothing; classes of modules called `exception` or `exceptions` are too."""


@dataclass(frozen=True)
class Reach:
    """One place where a module reaches into upstream.

    Attributes:
        line: its line.
        kind: `write`, `subclass`, `hook` or `private`.
        target: the dotted path of the upstream object; of a private attribute, its name.
    """

    line: int
    kind: str
    target: str


class Finder:
    """A finder for one module.

    Args:
        source: the text of the module.
    """

    def __init__(self, source: str) -> None:
        self._tree = ast.parse(source)
        self._names = dict(self._imports())
        self._own = {node.name for node in ast.walk(self._tree) if isinstance(node, ast.ClassDef)}
        self._attributes = set(self._own_attributes())
        for target, value in self._assignments():  # an alias of an upstream object: `protocol = auth_token.BaseAuthProtocol`
            dotted = self._dotted(value) if isinstance(value, ast.Attribute | ast.Call) else ""
            if dotted:
                self._names.setdefault(target, dotted)

    def reaches(self) -> list[Reach]:
        """Return all places that reach into upstream, by line."""
        found = [reach for node in ast.walk(self._tree) for reach in (*self._writes(node), *self._subclasses(node), *self._hooks(node))]
        return sorted(found, key=lambda reach: reach.line)

    def _imports(self) -> Iterator[tuple[str, str]]:
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield (alias.asname, alias.name) if alias.asname else (alias.name.split(".")[0],) * 2
            elif isinstance(node, ast.ImportFrom):
                yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)

    def _assignments(self) -> Iterator[tuple[str, ast.expr]]:
        """Yield each assignment to a name."""
        for node in ast.walk(self._tree):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
                yield node.target.id, node.value
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    pairs = [(target, node.value)]
                    if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                        pairs = list(zip(target.elts, node.value.elts, strict=False))
                    yield from ((each.id, value) for each, value in pairs if isinstance(each, ast.Name))

    def _own_attributes(self) -> Iterator[str]:
        for cls in (node for node in ast.walk(self._tree) if isinstance(node, ast.ClassDef)):
            for node in ast.walk(cls):
                if isinstance(node, ast.Assign | ast.AnnAssign):
                    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                        if isinstance(target, ast.Name):
                            yield target.id

    def _dotted(self, node: ast.AST) -> str:
        if isinstance(node, ast.Name):
            return self._names.get(node.id, "")
        if isinstance(node, ast.Attribute):
            base = self._dotted(node.value)
            return f"{base}.{node.attr}" if base else ""
        if isinstance(node, ast.Call):  # `import_module("nova.utils")`
            called = node.func.id if isinstance(node.func, ast.Name) else ""
            return self._text(node.args[0]) if called == "import_module" and node.args else ""
        return self._dotted(node.value) if isinstance(node, ast.Subscript) else ""

    def _upstream(self, node: ast.AST) -> str:
        dotted = self._dotted(node)
        return dotted if dotted.partition(".")[0] in UPSTREAM else ""

    def _writes(self, node: ast.AST) -> Iterator[Reach]:
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign | ast.Delete):
            targets = list(node.targets)
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        for each in targets:
            for target in each.elts if isinstance(each, ast.Tuple) else [each]:
                if not isinstance(target, ast.Attribute | ast.Subscript):
                    continue
                if dotted := self._upstream(target):
                    yield Reach(target.lineno, "write", dotted)
                elif isinstance(target, ast.Attribute) and self._is_private(target):
                    yield Reach(target.lineno, "private", target.attr)
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in {"setattr", "delattr"}
            and (dotted := self._upstream(node.args[0]))
        ):
            yield Reach(node.lineno, "write", f"{dotted}.{self._text(node.args[1])}")

    def _text(self, node: ast.AST) -> str:
        """Return the value of a literal or of a constant of the module."""
        if isinstance(node, ast.Constant):
            return str(node.value)
        constants = {
            target.id: each.value.value
            for each in self._tree.body
            if isinstance(each, ast.Assign) and isinstance(each.value, ast.Constant)
            for target in each.targets
            if isinstance(target, ast.Name)
        }
        return str(constants.get(node.id, "?")) if isinstance(node, ast.Name) else "?"

    def _is_private(self, target: ast.Attribute) -> bool:
        """Return whether a target is a private attribute of an object that is not the module's own."""
        if not target.attr.startswith("_") or target.attr in self._attributes:
            return False
        root = target.value
        return not (isinstance(root, ast.Name) and (root.id in {"self", "cls"} or root.id in self._own))

    def _subclasses(self, node: ast.AST) -> Iterator[Reach]:
        if isinstance(node, ast.ClassDef):
            for base in node.bases:
                if (dotted := self._upstream(base)) and not dotted.endswith(ERRORS) and dotted.split(".")[-2].rstrip("s") != "exception":
                    yield Reach(node.lineno, "subclass", dotted)

    def _hooks(self, node: ast.AST) -> Iterator[Reach]:
        if not isinstance(node, ast.Call):
            return
        if (dotted := self._upstream(node.func)) in HOOKS:
            yield Reach(node.lineno, "hook", dotted)
        elif isinstance(node.func, ast.Attribute) and node.func.attr == "addFilter":
            yield Reach(node.lineno, "hook", "logging.Logger.addFilter")

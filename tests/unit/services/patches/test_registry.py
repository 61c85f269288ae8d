"""The registry of patches, compared with the code, with the installed upstream and with the tests that it names."""

import ast
import re
from pathlib import Path

import pytest
from upstream import UNINSTALLED, fingerprint
from upstream_writes import Finder, Reach

from atoll.services.patches.patch import Patch, PatchKind
from atoll.services.patches.registry import PATCHES

ROOT = Path(__file__).parents[4]
SOURCE = ROOT / "src"

HOOKED = {PatchKind.EVENT, PatchKind.PLUGIN, PatchKind.WRAPPER, PatchKind.REPLACEMENT, PatchKind.SUBCLASS}
"""The kinds of entries that explain a call of one of upstream's functions that take a callback or a class."""

OWN = {"atoll.bench.crashes.hooks": {"__init__"}}
"""Writes to classes of Atoll's own, which look like writes to upstream's."""


def modules() -> list[str]:
    paths = sorted((SOURCE / "atoll").rglob("*.py"))
    return [".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__") for path in paths]


def path_of(module: str) -> Path:
    path = SOURCE / Path(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def unexplained(module: str, source: str, patches: tuple[Patch, ...] = PATCHES) -> list[Reach]:
    """Return where a module reaches into upstream without an entry that says so."""
    entries = [patch for patch in patches if patch.module == module]
    replaced = {target for patch in entries for target in patch.replaces}
    names = {target.rpartition(".")[2] for target in replaced}

    def explained(reach: Reach) -> bool:
        if reach.kind == "hook":
            return any(patch.how in HOOKED for patch in entries)
        if reach.kind == "private":
            return reach.target in names | OWN.get(module, set())
        return reach.target in replaced

    return [reach for reach in Finder(source).reaches() if not explained(reach)]


@pytest.mark.parametrize("module", modules())
def test_every_reach_into_upstream_has_an_entry(module):
    found = unexplained(module, path_of(module).read_text(encoding="utf-8"))
    assert not found, f"{module} reaches into upstream: add an entry to atoll.services.patches.entries, or mend the one that there is"


PLANTED = {
    "write": ("import nova.utils\nnova.utils.sanitize_hostname = str\n", "nova.utils.sanitize_hostname"),
    "write by an alias": ("from nova.compute import api\ncls = api.API\ncls.delete = None\n", "nova.compute.api.API.delete"),
    "write to a module by name": ("from importlib import import_module\nx = import_module('libvirt')\nx.y = 1\n", "libvirt.y"),
    "write of an item": ("from nova import service\nservice.SERVICE_MANAGERS['x'] = 1\n", "nova.service.SERVICE_MANAGERS"),
    "setattr": ("import nova.virt\nNAME = 'Driver'\nsetattr(nova.virt, NAME, 1)\n", "nova.virt.Driver"),
    "inside a function": ("def f():\n    import aiohttp\n    aiohttp.client.X, y = 1, 2\n", "aiohttp.client.X"),
    "subclass": ("from keystone.token import provider\nclass M(provider.Manager): pass\n", "keystone.token.provider.Manager"),
    "event": ("from sqlalchemy import event\nevent.listen(1, 'x', print)\n", "sqlalchemy.event.listen"),
    "private": ("def f(route):\n    route._handler = 1\n", "_handler"),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_reach_is_found(kind):
    source, target = PLANTED[kind]
    assert [reach.target for reach in unexplained("atoll.planted", source)] == [target]


def test_an_entry_of_another_module_explains_nothing():
    entry = Patch("x", "nova", PatchKind.WRAPPER, ("nova.utils.sanitize_hostname",), "", "atoll.other", "")
    assert unexplained("atoll.planted", PLANTED["write"][0], (entry,))
    assert not unexplained("atoll.other", PLANTED["write"][0], (entry,))


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.name)
def test_an_entry_has_code(patch):
    """If the code of an entry is removed, the entry must be removed too."""
    path = path_of(patch.module)
    assert path.is_file()
    if patch.how in {PatchKind.SUBCLASS, PatchKind.WRAPPER, PatchKind.CONSTANT}:
        assert Finder(path.read_text(encoding="utf-8")).reaches(), f"{patch.module} reaches into no upstream code"


@pytest.mark.parametrize("patch", [patch for patch in PATCHES if patch.sources], ids=lambda patch: patch.name)
def test_upstream_is_what_the_patch_was_written_against(patch):
    found = {source: fingerprint(source) for source in patch.sources}
    if UNINSTALLED in found.values():
        pytest.skip(f"{patch.distribution} is not installed")
    changed = {source: value for source, value in found.items() if value != patch.sources[source]}
    assert not changed, f"upstream has changed: read {patch.module} again, then put the new fingerprints into the entry {patch.name!r}"


def exists(node: str) -> bool:
    """Return whether a pytest node id names a test."""
    file, _, name = node.partition("::")
    if not (ROOT / file).is_file():
        return False
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return name in {each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.name)
def test_an_entry_names_tests_that_exist(patch):
    assert exists(patch.behaviour), patch.behaviour
    assert bool(patch.still_needed) != bool(patch.unprovable), (
        "expected either a test that the patch is still needed, or the reason why there is none"
    )
    assert not patch.still_needed or exists(patch.still_needed), patch.still_needed


def test_a_test_that_does_not_exist_is_noticed():
    here = Path(__file__).relative_to(ROOT)
    assert exists(f"{here}::test_a_test_that_does_not_exist_is_noticed")
    assert not exists(f"{here}::test_nothing")
    assert not exists("tests/nowhere.py::test_nothing")


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.name)
def test_an_entry_can_be_read(patch):
    assert re.fullmatch(r"[a-z0-9-]+", patch.name)
    assert re.fullmatch(r"\S.*\.", patch.why), "`why` must be one sentence"
    assert len(patch.why.split()) <= 35


def test_names_are_unique():
    assert len({patch.name for patch in PATCHES}) == len(PATCHES)

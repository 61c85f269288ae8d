"""Rules of CONTRIBUTING that no linter checks: sizes, mirrored tests, used error codes, names of classes, reasons of suppressions."""

import ast
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from atoll.errors import REGISTRY

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "atoll"
MODULES = sorted(SOURCE.rglob("*.py"))

LONGEST_MODULE, MEDIAN_MODULE = 500, 100
LONGEST_FUNCTION, MEDIAN_FUNCTION = 50, 10


PROGRAMS = [path for path in (ROOT / "scripts").iterdir() if path.is_file() and b"python" in path.read_bytes()[:80]]
SUPPRESSION = re.compile(r"# (noqa|type: ignore)\b(?:: ?[A-Z0-9, ]+|\[[a-z, -]+\])?(?P<reason>.*)")
MOST_NOQA, MOST_TYPE_IGNORES = 76, 21
"""Lines on which a finding of ruff or mypy is suppressed. These numbers only fall."""


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def functions() -> Iterator[tuple[str, int]]:
    """Yield every function with its number of lines from `def` to the end."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path.relative_to(SOURCE)}:{node.lineno} {node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


def test_modules_are_short():
    sizes = {str(path.relative_to(SOURCE)): lines(path) for path in MODULES}
    assert {name: size for name, size in sizes.items() if size > LONGEST_MODULE} == {}
    assert median(sizes.values()) <= MEDIAN_MODULE


def test_functions_are_short():
    sizes = dict(functions())
    assert {name: size for name, size in sizes.items() if size > LONGEST_FUNCTION} == {}
    assert median(sizes.values()) <= MEDIAN_FUNCTION


def test_tests_mirror_the_package():
    packages = {path.parent.relative_to(SOURCE) for path in MODULES}
    unit = ROOT / "tests" / "unit"
    mirrored = {path.parent.relative_to(unit) for path in unit.rglob("test_*.py")}
    assert mirrored - packages == set(), "these test directories mirror no package"
    parts = {Path(package.parts[0]) for package in packages if package.parts}
    assert parts - {Path(path.parts[0]) for path in mirrored if path.parts} == set(), "these packages have no tests"


@pytest.mark.parametrize("code", sorted(REGISTRY))
def test_error_code_is_used(code):
    used = any(f'"{code}"' in path.read_text(encoding="utf-8") for path in MODULES if path.name != "errors.py")
    assert used, f"nothing raises {code}: remove it from errors.py"


def test_test_files_have_names_of_their_own():
    """pytest imports test modules without packages, so equal names would conflict."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))


def suppressions() -> Iterator[tuple[str, str, str]]:
    """Yield the place, the kind and the reason of each suppressed finding of ruff or mypy."""
    for path in [*MODULES, *sorted((ROOT / "tests").rglob("*.py")), *PROGRAMS]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            found = list(SUPPRESSION.finditer(line)) if path.name not in {"test_structure.py", "words"} else []
            for match in found:
                yield f"{path.relative_to(ROOT)}:{number}", match[1], match["reason"].strip(" -#")


def test_suppressed_findings_have_a_reason_and_get_fewer():
    found = list(suppressions())
    assert [place for place, _, reason in found if not reason] == []
    assert sum(kind == "noqa" for _, kind, _ in found) <= MOST_NOQA
    assert sum(kind != "noqa" for _, kind, _ in found) <= MOST_TYPE_IGNORES


def layers() -> list[list[str]]:
    """Return the packages of each layer, from pyproject.toml."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    return [row.split(" | ") for contract in contracts if contract["type"] == "layers" for row in contract["layers"]]


def test_classes_of_one_layer_have_names_of_their_own():
    shared = set()
    for row in layers():
        places = defaultdict(list)
        for path in MODULES:
            if path.relative_to(SOURCE).parts[0].removesuffix(".py") in row:
                for node in ast.parse(path.read_text(encoding="utf-8")).body:
                    if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                        places[node.name].append(str(path.relative_to(SOURCE)))
        shared |= {f"{row[0]}: {name}" for name, paths in places.items() if len(paths) > 1}
    assert shared == set()

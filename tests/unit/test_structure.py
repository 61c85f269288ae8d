"""The habits of CONTRIBUTING that no linter checks: sizes, mirrored tests, a registry without dead entries."""

import ast
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from atoll.errors import REGISTRY

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "atoll"
MODULES = sorted(SOURCE.rglob("*.py"))

LONGEST_MODULE, MEDIAN_MODULE = 500, 150
LONGEST_FUNCTION, MEDIAN_FUNCTION = 50, 10


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def functions() -> Iterator[tuple[str, int]]:
    """Every function, with its lines from `def` to the end."""
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
    assert mirrored - packages == set(), "tests of packages that do not exist"
    parts = {Path(package.parts[0]) for package in packages if package.parts}
    assert parts - {Path(path.parts[0]) for path in mirrored if path.parts} == set(), "packages without tests"


@pytest.mark.parametrize("code", sorted(REGISTRY))
def test_error_code_is_used(code):
    used = any(f'"{code}"' in path.read_text(encoding="utf-8") for path in MODULES if path.name != "errors.py")
    assert used, f"nothing raises {code}: take it out of errors.py"


def test_test_files_have_names_of_their_own():
    """pytest imports them without packages, so two of one name would be taken for one another."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))

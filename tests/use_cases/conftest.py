"""The use cases of examples/cloudlets, in an environment of their own: `make use-cases` makes it and runs these tests."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NEEDED = ("aiomqtt", "amqtt", "pyretechnics", "pyvrp", "shapely")
MISSING = [name for name in NEEDED if find_spec(name) is None]

os.environ["PYTHONPATH"] = str(HERE.parents[1] / "examples" / "cloudlets")  # for the processes that tests start

collect_ignore = [path.name for path in HERE.glob("test_*.py")] if MISSING else []
"""Without the environment, no module of tests could be imported."""


def pytest_report_header() -> list[str]:
    """Say why nothing is tested."""
    return [f"the use cases are not tested: {', '.join(MISSING)} are not installed; `make use-cases` installs them"] if MISSING else []


class _Lacking(pytest.Item):
    """One skipped test in place of all."""

    def runtest(self) -> None:
        pytest.skip(f"{', '.join(MISSING)} are not installed: `make use-cases` installs them and runs these tests")


def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    if MISSING and not items:
        items.append(_Lacking.from_parent(session, name="use cases"))

"""The cloud for tests that create, change and delete resources across sites; see `three_sites`."""

import pytest
from three_sites import attacker, built, cloud, only_root, victim

__all__ = ["attacker", "built", "cloud", "victim"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    only_root(items)

"""The cloud for tests that create, change and delete resources across sites; see `three_sites`."""

import pytest
from tenants import Tenants
from three_sites import SITES, attacker, built, cloud, only_root, victim

__all__ = ["attacker", "built", "cloud", "victim"]


@pytest.fixture(scope="module")
def prepared(built) -> Tenants:
    """Return tenants of the cloud: two projects of the module's own."""
    tenants = Tenants(built, SITES)
    tenants.prepare()
    return tenants


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    only_root(items)

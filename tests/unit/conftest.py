"""What holds for all unit tests."""

import pytest


@pytest.fixture(autouse=True)
def _no_guests(monkeypatch):
    """Whether real guests can run is the machine's business, and no unit test's."""
    monkeypatch.setenv("ATOLL_COMPUTE", "fake")

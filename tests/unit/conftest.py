"""What holds for all unit tests."""

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes, or its making, says nothing of the code.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")


@pytest.fixture(autouse=True)
def _no_guests(monkeypatch):
    """Whether real guests can run is the machine's business, and no unit test's."""
    monkeypatch.setenv("ATOLL_COMPUTE", "fake")

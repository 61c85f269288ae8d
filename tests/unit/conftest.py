"""Settings and fixtures of all unit tests."""

import pytest
from hypothesis import HealthCheck, settings

# The duration of an example on a busy machine is not a property of the code.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")


@pytest.fixture(autouse=True)
def _no_guests(monkeypatch):
    """Make the outcome of unit tests independent of the machine's ability to run real guests."""
    monkeypatch.setenv("ATOLL_COMPUTE", "fake")

"""The lock of Octavia's OVN provider agent."""

import pytest
from upstream import inside

LOCK = """
    from ovn_octavia_provider import agent
    if sys.argv[1] == "ours":
        from atoll.services.patches.octavia import event_lock
        event_lock.install()
    tell(agent.OVN_EVENT_LOCK_NAME)
"""


@pytest.fixture(autouse=True)
def _installed():
    pytest.importorskip("ovn_octavia_provider")


def test_no_lock_is_requested():
    assert inside(LOCK, "ours") is None


def test_upstream_requests_a_lock():
    """If this fails, patches/octavia/event_lock.py can go."""
    assert inside(LOCK, "upstream")

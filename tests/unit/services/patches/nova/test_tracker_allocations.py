"""A claim's requests to Placement, with upstream's real tracker."""

import pytest
from upstream import inside

TRACK = """
    from nova import monkey_patch
    monkey_patch.patch(backend="threading")
    from types import SimpleNamespace
    from unittest import mock
    from nova import config, exception, objects
    from nova.conf import CONF
    objects.register_all()
    CONF([], project="nova", default_config_files=[])
    CONF.set_override("report_in_placement", sys.argv[2] == "pci", group="pci")
    from nova.compute import manager, pci_placement_translator, resource_tracker
    from atoll.services.patches.nova import tracker_allocations

    if "stock" not in sys.argv:
        tracker_allocations.install()
    client = mock.Mock()
    client.get_allocations_for_provider_tree.return_value = {"consumer": {}}
    driver = mock.Mock()
    seen = []
    def update(_tree, _node, allocations="none"):
        seen.append(allocations)
        if sys.argv[3] == "reshape" and allocations == "none":
            raise exception.ReshapeNeeded()
    driver.update_provider_tree.side_effect = update
    tracker = manager.resource_tracker.ResourceTracker("paris", driver, reportclient=client)
    with mock.patch.object(tracker, "_get_traits", return_value=[]), mock.patch.object(
        resource_tracker.pci_placement_translator, "update_provider_tree_for_pci", return_value=False
    ) as pci:
        node = SimpleNamespace(uuid="u", hypervisor_hostname="paris")
        try:
            tracker._update_to_placement(None, node, startup=sys.argv[1] == "start")
            failed = None
        except exception.ReshapeNeeded:
            failed = "ReshapeNeeded"
    tell({
        "class": type(tracker).__name__,
        "asked": client.get_allocations_for_provider_tree.call_count,
        "failed": failed,
        "told": len(client.update_from_provider_tree.call_args_list),
        "seen": seen,
        "restored": tracker.reportclient is client,
    })
"""


@pytest.mark.parametrize(
    ("words", "asked", "seen", "failed"),
    [
        ("later plain no", 0, ["none"], None),
        ("later pci no", 1, ["none"], None),
        ("start plain no", 1, ["none"], None),
        ("start plain reshape", 1, ["none", {"consumer": {}}], None),
        ("later plain reshape", 0, ["none"], "ReshapeNeeded"),
    ],
)
def test_allocations_are_read_where_they_can_be_of_use(words, asked, seen, failed):
    found = inside(TRACK, *words.split())
    assert found["class"] == "LeanTracker"
    assert (found["asked"], found["seen"], found["failed"]) == (asked, seen, failed)
    assert found["told"] == (0 if failed else 1)
    assert found["restored"]


def test_upstream_reads_allocations_at_each_claim():
    """If this fails, patches/nova/tracker_allocations.py can go."""
    assert inside(TRACK, "later", "plain", "no", "stock")["asked"] == 1

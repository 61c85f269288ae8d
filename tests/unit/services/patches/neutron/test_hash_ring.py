"""The process that handles an event of OVN, with upstream's real classes."""

from upstream import inside

RING = """
    from oslo_config import cfg
    from neutron.common import config
    config.register_common_config_options()
    cfg.CONF([], project="neutron", default_config_files=[])
    from neutron.common.ovn import hash_ring_manager
    from neutron.plugins.ml2.drivers.ovn.mech_driver.ovsdb import ovsdb_monitor
    from atoll.services.patches.neutron import hash_ring
    hash_ring.install()
    ring = ovsdb_monitor.hash_ring_manager.HashRingManager("mechanism_driver")
    one, two = (ring.get_node(key) for key in ("a", b"b"))
    tell([one[0] == two[0], len(one[0])])
"""


def test_every_event_is_this_processs_own():
    same, length = inside(RING)
    assert same
    assert length >= 32


STOCK = """
    from unittest import mock
    from oslo_config import cfg
    from neutron.common import config
    config.register_common_config_options()
    cfg.CONF([], project="neutron", default_config_files=[])
    from neutron.common.ovn import hash_ring_manager

    asked = []
    nodes = [mock.Mock(node_uuid="one")]
    with mock.patch.object(hash_ring_manager, "db_hash_ring") as database, mock.patch.object(
        hash_ring_manager.wsgi_utils, "get_api_worker_count", return_value=1
    ):
        database.get_active_nodes.return_value = nodes
        hash_ring_manager.HashRingManager("mechanism_driver").get_node("a")
        tell(database.get_active_nodes.call_count)
"""


def test_upstream_asks_the_database():
    """If this fails, patches/neutron/hash_ring.py can go."""
    assert inside(STOCK) > 0

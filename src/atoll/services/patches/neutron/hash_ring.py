"""A ring of one process that handles all events of OVN, as a site has one API process.

Upstream distributes events among API processes by a hash ring in Neutron's database. The thread that receives them marks its own process
there as alive (`OvnIdlDistributedLock.notify` in neutron/plugins/ml2/drivers/ovn/mech_driver/ovsdb/ovsdb_monitor.py), and holds the lock
of its OVSDB connection meanwhile. An API thread may need that lock inside a transaction of its own, such as `create_network`, which looks
up the network's availability zones. In MySQL the two write different rows; SQLite has one writer, so each waits for the other. The ring
(`HashRingManager` in neutron/common/ovn/hash_ring_manager.py) is replaced by one that contains this process, alive, and asks no database.
"""

from __future__ import annotations

import os
from datetime import datetime

from neutron.common.ovn import hash_ring_manager
from neutron.db import ovn_hash_ring_db
from oslo_config import cfg
from oslo_utils import timeutils


class OnlyNode:
    """A hash ring with one node.

    Args:
        group_name: the name of the group of processes that share events.
    """

    def __init__(self, group_name: str) -> None:
        self._node = ovn_hash_ring_db.get_node_uuid(group_name, cfg.CONF.host, os.getpid())

    def get_node(self, _key: str) -> tuple[str, datetime]:
        """Return the process that handles an event, and the time when it was last seen alive."""
        return self._node, timeutils.utcnow()


def install() -> None:
    """Have later connections to OVN's databases use `OnlyNode` instead of upstream's hash ring."""
    os.environ["ASGI_WORKERS"] = "1"  # Neutron's maintenance of the ring in the database reads it
    hash_ring_manager.HashRingManager = OnlyNode

"""Who handles an event of OVN: Neutron's API process, for a site has one.

Upstream shares events out among API processes by a hash ring kept in Neutron's database, and the thread that receives them marks its own
process there as alive (`OvnIdlDistributedLock.notify` in neutron/plugins/ml2/drivers/ovn/mech_driver/ovsdb/ovsdb_monitor.py). It holds the
lock of its OVSDB connection meanwhile, and an API thread may want that lock in the midst of a transaction of its own (such as
`create_network`, which looks up the network's availability zones). In MySQL the two write different rows; SQLite has one writer, so that
each waited for the other. Replaced: the ring (`HashRingManager` in neutron/common/ovn/hash_ring_manager.py), by one that has this process
in it, alive, and asks no database.
"""

from __future__ import annotations

import os
from datetime import datetime

from neutron.common.ovn import hash_ring_manager
from neutron.db import ovn_hash_ring_db
from oslo_config import cfg
from oslo_utils import timeutils


class OnlyNode:
    """A ring of one.

    Args:
        group_name: of the processes that share events.
    """

    def __init__(self, group_name: str) -> None:
        self._node = ovn_hash_ring_db.get_node_uuid(group_name, cfg.CONF.host, os.getpid())

    def get_node(self, _key: str) -> tuple[str, datetime]:
        """The process that an event is for, and when it was last seen alive."""
        return self._node, timeutils.utcnow()


def install() -> None:
    """Have connections to OVN's databases that are made from now on use it."""
    os.environ["ASGI_WORKERS"] = "1"  # asked for by what looks after the ring in the database
    hash_ring_manager.HashRingManager = OnlyNode

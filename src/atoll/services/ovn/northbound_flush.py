"""Changes of OVN's northbound database that are on the disk before Neutron goes on.

ovsdb-server writes a transaction into its file before it answers, and flushes it only if the transaction says `"durable": true` (RFC 7047,
5.2.7). Python's client (`ovs.db.idl`) has no way to say so. Neutron then notes in its own database, durably, that OVN has the change, and
never looks again (`ovn_revision_numbers`): after a loss of power a port that a client was told of could be without its switch port for
ever. So the file is flushed after each transaction of Neutron's (`OvnNbTransaction` in
neutron/plugins/ml2/drivers/ovn/mech_driver/ovsdb/impl_idl_ovn.py). Who wrote it does not matter to fsync. The southbound database is made
of the northbound one by ovn-northd, and the switch's is made anew.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from neutron.plugins.ml2.drivers.ovn.mech_driver.ovsdb import impl_idl_ovn

from atoll.files import flush


def flushing(commit: Callable[..., Any], database: Path) -> Callable[..., Any]:
    """`OvnNbTransaction.commit`, which returns when the change is on the disk.

    Args:
        commit: upstream's.
        database: the file of the northbound database.
    """

    @wraps(commit)
    def committed(self: Any) -> Any:
        result = commit(self)
        if self.commands:
            flush(database)
        return result

    return committed


def install(database: Path) -> None:
    """Have Neutron, in this process, flush what it tells OVN.

    Args:
        database: the file of the northbound database.
    """
    impl_idl_ovn.OvnNbTransaction.commit = flushing(impl_idl_ovn.OvnNbTransaction.commit, database)

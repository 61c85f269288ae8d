"""Flushes Neutron's changes of OVN's northbound database to the disk before Neutron continues.

ovsdb-server writes a transaction into its file before it answers, and flushes the file only if the transaction says `"durable": true`
(RFC 7047, 5.2.7). Python's client (`ovs.db.idl`) cannot set this flag. Neutron then durably records in its own database that OVN has the
change, and never checks it again (`ovn_revision_numbers`): after a loss of power, a port that was acknowledged could lack its switch port
for ever. So the file is flushed after each of Neutron's transactions (`OvnNbTransaction` in
neutron/plugins/ml2/drivers/ovn/mech_driver/ovsdb/impl_idl_ovn.py); any process may flush it. No other
database needs this: ovn-northd derives the southbound database from the northbound one, and the database of Open vSwitch is made anew.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from neutron.plugins.ml2.drivers.ovn.mech_driver.ovsdb import impl_idl_ovn

from atoll.files import flush


def flushing(commit: Callable[..., Any], database: Path) -> Callable[..., Any]:
    """Wrap `OvnNbTransaction.commit`, so that it returns when the change is on the disk.

    Args:
        commit: upstream's method.
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
    """Have Neutron flush its changes of OVN's database, in this process.

    Args:
        database: the file of the northbound database.
    """
    impl_idl_ovn.OvnNbTransaction.commit = flushing(impl_idl_ovn.OvnNbTransaction.commit, database)

"""Flushes of OVN's northbound database, with upstream's real class of transactions."""

from upstream import inside

COMMIT = """
    from pathlib import Path
    from unittest import mock
    from neutron.plugins.ml2.drivers.ovn.mech_driver.ovsdb import impl_idl_ovn
    from atoll.services.patches.neutron import northbound_flush

    done = []
    northbound_flush.flush = lambda path: done.append(f"flush {path}")
    if sys.argv[1] == "ours":
        northbound_flush.install(Path("ovnnb.db"))
    connection = mock.Mock(timeout=1)
    transaction = impl_idl_ovn.OvnNbTransaction(mock.Mock(), connection)

    def queue(queued):
        done.append("commit")
        queued.results.put(["result"])

    connection.queue_txn = queue
    if sys.argv[2] == "something":
        transaction.add(mock.Mock())
    tell([transaction.commit(), done])
"""


def test_the_file_is_flushed_after_the_commit():
    assert inside(COMMIT, "ours", "something") == [["result"], ["commit", "flush ovnnb.db"]]


def test_a_transaction_of_nothing_flushes_nothing():
    assert inside(COMMIT, "ours", "nothing") == [["result"], ["commit"]]


def test_upstream_still_needs_it():
    assert inside(COMMIT, "upstream", "something") == [["result"], ["commit"]]

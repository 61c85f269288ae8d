"""The synchroniser: its transactions, and the mark that keeps Keystone from filling the stream."""

import asyncio
from collections import Counter

from atoll.identity.bounds import FULL_FROM
from atoll.identity.engines import Collided
from atoll.identity.synchroniser import FullnessMark, IdentitySettings, IdentitySynchroniser
from atoll.identity.trust import TrustPolicy


def test_a_mark_is_there_while_the_stream_is_nearly_full(tmp_path):
    mark = tmp_path / "identity-full"
    mark.write_text("99")  # of an earlier process
    fullness = FullnessMark(mark)
    fullness.show(0.1)
    assert not mark.exists()
    fullness.show(FULL_FROM / 100)
    assert mark.read_text() == str(FULL_FROM)
    fullness.show(0.964)
    assert mark.read_text() == "96"
    fullness.show(0.5)
    assert list(tmp_path.iterdir()) == []


def test_a_change_costs_one_read_and_one_write_transaction_per_database(node, tmp_path):
    paris, lyon = node("paris", prepared=False), node("lyon")
    settings = IdentitySettings(f"sqlite:///{paris.database}", tmp_path, (), TrustPolicy(), founder=True)
    synchroniser = IdentitySynchroniser(settings, paris.document)
    paris.document.on_change(synchroniser._on_change)

    async def work() -> Counter[str]:
        begun: Counter[str] = Counter()
        if connection := vars(synchroniser._replica._database)["_connection"]:
            connection.set_trace_callback(lambda statement: begun.update([statement] if statement.startswith("BEGIN") else []))
        while synchroniser._wake.is_set() or not synchroniser._prepared:
            await synchroniser._work()
        assert synchroniser._quiet.is_set()
        return begun

    async def run() -> None:
        await work()
        project = paris.project("physics")
        synchroniser._on_poke()
        assert await work() == {"BEGIN DEFERRED": 1, "BEGIN IMMEDIATE": 1}
        lyon.site.catch_up(paris.site)
        lyon.settle()
        lyon.sql("UPDATE project SET description = 'atoms' WHERE id = ?", project)
        lyon.settle()
        paris.site.catch_up(lyon.site)
        assert await work() == {"BEGIN DEFERRED": 1, "BEGIN IMMEDIATE": 1}
        assert paris.sql("SELECT description FROM project WHERE id = ?", project) == [("atoms",)]

    try:
        asyncio.run(run())
    finally:
        synchroniser.close()


def test_changes_are_published_again_after_a_failure_that_passes(node, tmp_path, monkeypatch):
    """A failure of one transaction, such as a lock that was not free in time, must not leave later requests with an old document."""
    paris = node("paris", prepared=False)
    settings = IdentitySettings(f"sqlite:///{paris.database}", tmp_path, (), TrustPolicy(), founder=True)
    synchroniser = IdentitySynchroniser(settings, paris.document)

    def fail() -> int:
        raise Collided("the lock was not free")

    async def run() -> None:
        await synchroniser._work()
        with monkeypatch.context() as patch:
            patch.setattr(synchroniser._replica, "pull", fail)
            synchroniser._wake.set()
            synchroniser.pull()
        await synchroniser._work()
        project = paris.project("physics")
        synchroniser._wake.set()
        synchroniser.pull()
        assert paris.document.record("identity.project", project)

    try:
        asyncio.run(run())
    finally:
        synchroniser.close()

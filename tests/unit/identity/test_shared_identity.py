"""Identity at a site that shares the Keystone database of another site."""

import asyncio
import sqlite3
from contextlib import closing, suppress

from atoll import pokes
from atoll.identity import shared
from atoll.identity.shared import SharedIdentity


def test_caches_are_emptied_whenever_the_replica_reaches_another_position(tmp_path, monkeypatch):
    monkeypatch.setattr(shared, "LOOK_S", 0.01)
    replica = tmp_path / "demo.paris.keystone.db"
    url = f"sqlite+redis://h/0/demo.paris.keystone?replicas={tmp_path}&cloud=demo&site=lyon"

    async def poked(socket) -> bool:
        for _ in range(500):
            if pokes.drain(socket):
                return True
            await asyncio.sleep(0.01)
        return False

    async def main() -> None:
        socket = pokes.receiver(tmp_path / f"{pokes.FORGET}nova")
        identity = SharedIdentity(url, tmp_path)
        task = asyncio.ensure_future(identity.run())
        try:
            await asyncio.sleep(0)  # a site without a replica is no error
            with closing(sqlite3.connect(replica)) as database:
                for position in (7, 8):
                    database.execute(f"PRAGMA user_version = {position}")
                    assert await poked(socket)
            await asyncio.sleep(0.05)
            assert not pokes.drain(socket), "nothing has changed since"
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            socket.close()

    asyncio.run(main())


def test_the_owner_does_all_else(tmp_path):
    identity = SharedIdentity(f"sqlite+redis://h/0/k?replicas={tmp_path}&cloud=demo&site=lyon", tmp_path)
    with closing(identity):
        identity.pull()
        assert asyncio.run(identity.applied())
        assert identity.conflicts() == []

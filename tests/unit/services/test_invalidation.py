"""Invalidation of caches and notices of commits, each in a process of its own, because both affect the whole process."""

from upstream import inside

FORGETS = """
    import time
    from pathlib import Path
    from dogpile.cache import make_region
    from dogpile.cache.api import NO_VALUE
    from atoll import pokes
    from atoll.services import invalidation
    from atoll.services.patches.shared import process_cache
    from atoll.services.wsgi import TokenCache

    directory, tokens = Path(sys.argv[1]), TokenCache()
    process_cache.install()
    region = make_region().configure(process_cache.NAME, expiration_time=300)
    invalidation.register(tokens.clear)
    invalidation.listen(directory, "nova")
    poker = pokes.Poker()

    def fill():
        region.set("user", "ann")
        tokens.set("token", "ann")
        return region.get("user"), tokens.get("token")

    def forgotten():
        "Waits for it."
        until = time.monotonic() + 20
        while time.monotonic() < until and (region.get("user") is not NO_VALUE or tokens.get("token") is not None):
            time.sleep(0.01)
        return region.get("user") is NO_VALUE and tokens.get("token") is None

    found = []
    for _ in range(2):
        found.append(fill())
        poker.forget(directory)
        found.append(forgotten())
    found.append(fill())  # a request that had read this just before
    found.append(forgotten())
    found.append(fill())
    time.sleep(2 * invalidation.AGAIN_S)
    found.append([region.get("user"), tokens.get("token")])
    tell([found, [path.name for path in directory.iterdir()]])
"""

COMMITS = """
    import socket
    from pathlib import Path
    from sqlalchemy import create_engine, text
    from sqlalchemy.orm import Session
    from atoll import pokes
    from atoll.services import invalidation

    directory = Path(sys.argv[1])
    invalidation.announce_commits(directory)
    engine = create_engine(f"sqlite:///{directory}/x.db")

    def poked(receiver):
        try:
            receiver.recv(16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        pokes.drain(receiver)
        return True

    def insert(session):
        session.execute(text("insert into t values (1)"))

    with Session(engine) as session:
        session.execute(text("create table t (x int)"))
        session.commit()  # nobody listens yet
    found = []
    for _ in range(2):  # the mesh is restarted
        with pokes.receiver(directory / pokes.COMMITTED) as receiver:
            with Session(engine) as session:
                insert(session)
                found.append(poked(receiver))
                session.commit()
                found.append(poked(receiver))
                insert(session)
                session.rollback()
                found.append(poked(receiver))
    with Session(engine) as session:
        insert(session)
        session.commit()
        found.append(session.execute(text("select count(*) from t")).scalar())
    tell(found)
"""


def test_caches_are_emptied_whenever_the_process_is_told(tmp_path):
    found, sockets = inside(FORGETS, str(tmp_path))
    assert found == [["ann", "ann"], True, ["ann", "ann"], True, ["ann", "ann"], True, ["ann", "ann"], ["ann", "ann"]]
    assert sockets == ["forget.nova"]


def test_commits_are_told_and_rollbacks_are_not_and_nobody_needs_to_listen(tmp_path):
    assert inside(COMMITS, str(tmp_path)) == [False, True, False, False, True, False, 3]

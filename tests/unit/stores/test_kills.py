"""Writers and servers that die: nothing that was acknowledged is lost, nothing is there twice, and all replicas are alike."""

import subprocess
import sys
import threading
import time

import pytest
import redis_server
import sqlalchemy as sa
from killed_writer import META, POINTS, T

from atoll.stores.maintenance import verify
from atoll.stores.store import close_stores, open_store
from atoll.stores.url import parse


def names(engine):
    with engine.connect() as connection:
        return connection.execute(sa.select(T.c.name)).scalars().all()


@pytest.mark.parametrize("point", POINTS)
def test_a_writer_dies(site, server, log, tmp_path, point):
    lyon = site("lyon")
    META.create_all(lyon)
    with lyon.begin() as connection:
        connection.execute(T.insert().values(name="first"))
    url = server.url(tmp_path / "paris.db", log, "paris")
    victim = subprocess.Popen(
        [sys.executable, "killed_writer.py", url, point, "3"], cwd=__file__.rpartition("/")[0], stdout=subprocess.PIPE, text=True
    )
    stop = threading.Event()

    def write_at_lyon():  # so that the victim has something to apply
        number = 0
        while not stop.is_set():
            with lyon.begin() as connection:
                connection.execute(T.insert().values(name=f"lyon {number}"))
            number += 1
            time.sleep(0.02)

    thread = threading.Thread(target=write_at_lyon)
    thread.start()
    try:
        acknowledged = victim.communicate(timeout=50)[0].splitlines()
    finally:
        victim.kill()
        stop.set()
        thread.join()
    assert victim.returncode == -9
    paris = site("paris")
    stores = [open_store(parse(engine.url)) for engine in (paris, lyon)]
    for store in stores:
        store.catch_up()
    found = names(paris)
    assert set(acknowledged) <= set(found)
    assert len(found) == len(set(found))
    unacknowledged = {name for name in found if name.startswith(point)} - set(acknowledged)
    assert len(unacknowledged) <= 1
    assert sorted(names(lyon)) == sorted(found)
    assert [verify(store) for store in stores] == [[], []]
    with paris.begin() as connection:  # no lock is left behind
        connection.execute(T.insert().values(name="afterwards"))


def test_two_processes_of_a_site(site, server, log, tmp_path):
    paris = site("paris")
    META.create_all(paris)
    url = server.url(tmp_path / "paris.db", log, "paris")
    arguments = [sys.executable, "killed_writer.py", url, "before the log", "30"]
    other = subprocess.Popen(arguments, cwd=__file__.rpartition("/")[0], stdout=subprocess.PIPE, text=True)
    mine = 0
    while other.poll() is None:
        with paris.begin() as connection:
            connection.execute(T.insert().values(name=f"mine {mine}"))
        mine += 1
    theirs = other.communicate()[0].splitlines()
    assert sorted(names(paris)) == sorted([*theirs, *(f"mine {number}" for number in range(mine))])
    assert len(theirs) == 29
    assert verify(open_store(parse(paris.url))) == []


def test_a_service_that_forks(site, server, log, tmp_path):
    url = server.url(tmp_path / "paris.db", log, "paris")
    command = [sys.executable, "-W", "ignore", "forking_service.py", url]
    done = subprocess.run(command, cwd=__file__.rpartition("/")[0], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout) == (0, "[0, 0, 0] 40\n"), done.stderr
    assert verify(open_store(parse(site("paris").url))) == []


def test_the_server_dies(tmp_path):
    with redis_server.running(tmp_path) as server:
        engines = [sa.create_engine(server.url(tmp_path / f"{name}.db", "log", name)) for name in ("paris", "lyon")]
        META.create_all(engines[0])
        acknowledged, errors = [], []

        def work(place):
            number = 0
            while len(acknowledged) < 60 or number < 3:
                name = f"{place} {number}"
                try:
                    with engines[place].begin() as connection:
                        connection.execute(T.insert().values(name=name))
                    acknowledged.append(name)
                except sa.exc.OperationalError as error:
                    errors.append(error)
                number += 1

        open_store(parse(engines[1].url)).catch_up()
        threads = [threading.Thread(target=work, args=(place,)) for place in (0, 1)]
        for thread in threads:
            thread.start()
        for size in (20, 40):
            while len(acknowledged) < size:
                time.sleep(0.005)
            server.kill()
            server.start()
        for thread in threads:
            thread.join()
        assert errors == []
        stores = [open_store(parse(engine.url)) for engine in engines]
        for store in stores:
            store.catch_up()
        assert sorted(names(engines[0])) == sorted(names(engines[1])) == sorted(acknowledged)
        assert [verify(store) for store in stores] == [[], []]
        for engine in engines:
            engine.dispose()
        close_stores()

"""A site's client of a long history: `history_client.py URL FILE SECONDS_OF_AN_EPOCH`; it works until SIGTERM.

Each line of FILE is JSON: `begin` with the writes of a transaction before its commit, `end` with its outcome and reads. A killed client
leaves transactions with a `begin` alone, whose outcome is unknown. A store that refuses to write ends the client with the exit code 3.

Values are unique. Lists grow by appending. A register is overwritten by a transaction that has read it for update, and notes the value.
"""

import itertools
import json
import os
import random
import signal
import sys
import threading
import time

import sqlalchemy as sa
from sqlalchemy.dialects import registry

from atoll.stores.errors import Deadlock, Refusal, StoreError

META = sa.MetaData()
LISTS = sa.Table("lists", META, sa.Column("k", sa.String, primary_key=True), sa.Column("v", sa.String, nullable=False))
REGISTERS = sa.Table("registers", META, sa.Column("k", sa.String, primary_key=True), sa.Column("v", sa.String, nullable=False))
KEYS = 3
"""Number of lists, and of registers, that clients use at the same time."""

PAUSE_S = 0.4
"""Mean number of seconds between two transactions of a thread."""

THREADS = 2
REFUSED = 3


def keys(table: sa.Table, epoch: int) -> list[str]:
    return [f"{table.name[0]}{epoch}.{number}" for number in range(KEYS)]


class Recorder:
    """The file of a client; each line is in it before the next step, so that SIGKILL loses none."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(self, **fields: object) -> None:
        os.write(self._file, f"{json.dumps(fields)}\n".encode())


class Transaction:
    """One transaction, as it goes on."""

    def __init__(self, connection: sa.Connection, name: str, level: str) -> None:
        self.connection, self.name, self.level = connection, name, level
        self.numbers = itertools.count()
        self.appends: dict[str, list[str]] = {}
        self.writes: dict[str, list[str]] = {}
        """For each register, the value that was there before, and the values that were written."""
        self.reads: list[tuple[str, str]] = []

    def value(self) -> str:
        return f"{self.name}.{next(self.numbers)}"

    def read(self, table: sa.Table, key: str, *, lock: bool = False) -> str:
        query = sa.select(table.c.v).where(table.c.k == key)
        found = str(self.connection.execute(query.with_for_update() if lock else query).scalar_one())
        if not self.appends.get(key) and not self.writes.get(key):
            self.reads.append((key, found))
        return found

    def append(self, key: str, *, blind: bool) -> None:
        seen = "" if blind else self.read(LISTS, key, lock=self.level == "galera")
        value = self.value()
        new = LISTS.c.v + f"{value} " if blind else f"{seen}{value} "
        self.connection.execute(LISTS.update().where(LISTS.c.k == key).values(v=new))
        self.appends.setdefault(key, []).append(value)

    def overwrite(self, key: str) -> None:
        before, value = self.read(REGISTERS, key, lock=self.level == "galera"), self.value()
        self.connection.execute(REGISTERS.update().where(REGISTERS.c.k == key).values(v=value))
        self.writes.setdefault(key, [before]).append(value)

    def step(self, choice: random.Random, epoch: int) -> None:
        table = choice.choice((LISTS, REGISTERS))
        key = choice.choice(keys(table, epoch))
        action = choice.choice(("read", "read", "append", "modify"))
        if action == "read":
            self.read(table, key)
        elif table is REGISTERS:
            self.overwrite(key)
        else:
            self.append(key, blind=action == "append")


def transact(engine: sa.Engine, recorder: Recorder, name: str, level: str, choice: random.Random, epoch: int) -> None:
    outcome, transaction = "failed", None
    try:
        with engine.connect() as connection:
            transaction = Transaction(connection, name, level)
            for _ in range(choice.randint(1, 4)):
                transaction.step(choice, epoch)
            recorder.note(begin=name, appends=transaction.appends, writes=transaction.writes)
            outcome = "unknown"
            connection.commit()
            outcome = "committed"
    except sa.exc.OperationalError as error:
        if not isinstance(error.orig, StoreError):
            raise
        if isinstance(error.orig, Deadlock):
            outcome = "failed"
        elif isinstance(error.orig, Refusal):
            recorder.note(end=name, outcome=outcome)
            recorder.note(refused=type(error.orig).__name__, text=str(error.orig))
            os._exit(REFUSED)
        else:
            recorder.note(trouble=type(error.orig).__name__, text=str(error.orig))
    recorder.note(end=name, outcome=outcome, reads=transaction.reads if transaction and outcome == "committed" else [])


def main(url: str, path: str, epoch_s: str) -> None:
    for scheme in ("redis", "redis.sentinel"):
        registry.register(scheme, "atoll.stores.dialect", "RedisDialect")
    engine = sa.create_engine(url, pool_size=THREADS)
    level = str(engine.url.query["isolation"])
    recorder = Recorder(path)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())

    def work(number: int) -> None:
        choice = random.Random(f"{path} {os.getpid()} {number}")
        for count in itertools.count():
            if stopped.is_set():
                return
            try:
                transact(
                    engine,
                    recorder,
                    f"{engine.url.query['site']}.{os.getpid()}.{number}.{count}",
                    level,
                    choice,
                    int(time.time() / float(epoch_s)),
                )
            except BaseException as error:
                recorder.note(bug=repr(error))
                os._exit(1)
            stopped.wait(choice.expovariate(1 / PAUSE_S))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.dispose()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A stand-in for a site's service: measures read and write transactions on a database, and prints a JSON object.

The worker runs in a process of its own: `python -m atoll.bench.stores.worker URL SECONDS WRITERS`.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import sqlalchemy as sa

ROWS = 1000
_PARTS = 4
"""Number of equally long parts of a measurement: reads, writes, one writer, many writers."""

_META = sa.MetaData()
_TABLE = sa.Table("t", _META, sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Integer))


class Times(NamedTuple):
    """Durations of transactions, in seconds."""

    each: list[float]
    elapsed: float
    """Duration of all transactions together, in seconds."""

    def quantile_ms(self, share: float) -> float:
        """Return the duration in milliseconds that this share (0 to 1) of the transactions does not exceed."""
        return round(sorted(self.each)[min(len(self.each) - 1, int(len(self.each) * share))] * 1000, 3)

    def per_second(self) -> float:
        """Return the number of transactions per second."""
        return round(len(self.each) / self.elapsed, 1)


def repeat(work: Callable[[int], None], seconds: float, workers: int) -> Times:
    """Repeat a transaction in threads for `seconds` seconds, and return the durations.

    Args:
        work: carries out one transaction; its argument is a number that no other call gets.
        seconds: the duration of the measurement.
        workers: the number of threads.
    """
    each: list[float] = []
    began = time.monotonic()

    def run(worker: int) -> None:
        number = worker
        while time.monotonic() < began + seconds:
            start = time.perf_counter()
            work(number % ROWS)
            each.append(time.perf_counter() - start)
            number += workers

    threads = [threading.Thread(target=run, args=(worker,)) for worker in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Times(each, time.monotonic() - began)


def measure(engine: sa.Engine, seconds: float, writers: int) -> dict[str, float]:
    """Return the measured values of an engine, by name.

    Args:
        engine: the engine; its database is empty.
        seconds: the duration of all measurements together.
        writers: number of threads in the part with many writers.
    """
    _META.create_all(engine)
    with engine.begin() as connection:
        connection.execute(_TABLE.insert(), [{"id": number + 1, "n": 0} for number in range(ROWS)])  # MariaDB replaces 0

    def read(number: int) -> None:
        with engine.begin() as connection:
            connection.execute(sa.select(_TABLE).where(_TABLE.c.id == number + 1)).all()

    def write(number: int) -> None:
        with engine.begin() as connection:
            connection.execute(_TABLE.update().where(_TABLE.c.id == number + 1).values(n=_TABLE.c.n + 1))

    part = seconds / _PARTS
    repeat(read, part / 10, 1), repeat(write, part / 10, writers)  # fill caches and the pool
    reads, writes, many = repeat(read, part, 1), repeat(write, 2 * part, 1), repeat(write, part, writers)
    return {
        "read_p50_ms": reads.quantile_ms(0.5), "read_p99_ms": reads.quantile_ms(0.99),
        "write_p50_ms": writes.quantile_ms(0.5), "write_p99_ms": writes.quantile_ms(0.99),
        "writes_per_s_1": writes.per_second(), f"writes_per_s_{writers}": many.per_second(),
    }  # fmt: skip


def main(url: str, seconds: str, writers: str) -> None:
    """Measure one database and print the result."""
    engine = sa.create_engine(url, pool_size=int(writers))
    sys.stdout.write(json.dumps(measure(engine, float(seconds), int(writers))) + "\n")
    engine.dispose()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A writer that kills itself at a point of a commit: `killed_writer.py URL POINT COUNT`. It prints each name that is acknowledged."""

import os
import signal
import sys

import sqlalchemy as sa
from sqlalchemy.dialects import registry

from atoll.stores.certify import Writer
from atoll.stores.log import Log
from atoll.stores.replica import Replica

META = sa.MetaData()
T = sa.Table("t", META, sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String, unique=True))
POINTS = {
    "before the log": (Log, "append", "before"),
    "after the log": (Log, "append", "after"),
    "before the local commit": (Writer, "_commit", "before"),
    "after the local commit": (Writer, "_commit", "after"),
    "while it notes the position": (Replica, "record", "before"),
    "before it applies": (Replica, "apply", "before"),
    "after it applied": (Replica, "apply", "after"),
}


def arm(point: str, count: int) -> None:
    """Die at the `count`-th time that the point is reached."""
    owner, name, when = POINTS[point]
    original, left = getattr(owner, name), [count]

    def wrapped(*arguments, **options):
        left[0] -= 1
        if when == "before" and left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **options)
        if when == "after" and left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, wrapped)


def main(url: str, point: str, count: str) -> None:
    registry.register("redis", "atoll.stores.dialect", "RedisDialect")
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        connection.execute(sa.select(T)).all()
    arm(point, int(count))
    for number in range(1000):
        name = f"{point} {number}"
        with engine.begin() as connection:
            connection.execute(T.insert().values(name=name))
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])

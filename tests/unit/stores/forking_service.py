"""A service that forks after it has used its database, as a fork server does: `forking_service.py URL`. It prints the final number."""

import os
import sys

import sqlalchemy as sa
from oslo_db.sqlalchemy import enginefacade
from sqlalchemy.dialects import registry

META = sa.MetaData()
T = sa.Table("t", META, sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Integer))
CHILDREN, TIMES = 3, 10


def add(engine: sa.Engine) -> None:
    for _ in range(TIMES):
        with engine.begin() as connection:
            connection.execute(T.update().values(n=T.c.n + 1))


def main(url: str) -> None:
    registry.register("redis", "atoll.stores.dialect", "RedisDialect")
    context = enginefacade.transaction_context()
    context.configure(connection=url)
    engine = context.writer.get_engine()
    META.create_all(engine)
    with engine.begin() as connection:
        connection.execute(T.insert().values(id=1, n=0))
    children = []
    for _ in range(CHILDREN):
        child = os.fork()
        if not child:
            add(engine)
            os._exit(0)
        children.append(child)
    add(engine)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    with engine.connect() as connection:
        sys.stdout.write(f"{codes} {connection.execute(sa.select(T.c.n)).scalar()}\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])

"""Servers of MariaDB and PostgreSQL that can't be used are refused with the reason."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from atoll.services import Settings
from atoll.services.database_servers import relational
from atoll.services.database_servers.contract import ServerError

OWN = "GRANT ALL PRIVILEGES ON `demo\\_%`.* TO `atoll`@`%`"
NONE = "GRANT USAGE ON *.* TO `atoll`@`%`"
SUPER = "GRANT SELECT, SUPER ON *.* TO `atoll`@`%`"
ALL = "GRANT ALL PRIVILEGES ON *.* TO `atoll`@`%` WITH GRANT OPTION"


def check(
    monkeypatch: pytest.MonkeyPatch, engine: str, version: tuple[int, ...], *, mariadb: bool = True, distrusts: int = 0, grants=()
) -> None:
    @contextmanager
    def connected(_settings):
        def execute(statement):
            return [(each,) for each in grants] if statement == "show grants" else SimpleNamespace(scalar=lambda: distrusts)

        yield SimpleNamespace(dialect=SimpleNamespace(server_version_info=version, is_mariadb=mariadb), exec_driver_sql=execute)

    monkeypatch.setattr(relational, "_connected", connected)
    server = {"mariadb": "mysql+pymysql://atoll@db", "postgresql": "postgresql+psycopg://atoll@db"}[engine]
    relational.check(Settings("paris", "/nowhere", "/nowhere", "127.0.0.1", {}, {}, engine=engine, server=server))


@pytest.mark.parametrize(
    ("engine", "version", "mariadb", "reason"),
    [
        ("mariadb", (8, 0, 36), False, "is MySQL 8.0.36: expected MariaDB 10.6 or later"),
        ("mariadb", (10, 5, 9), True, "is mariadb 10.5.9: expected version 10.6 or later"),
        ("postgresql", (12, 4), False, "is postgresql 12.4: expected version 13 or later"),
    ],
)
def test_another_or_too_old_server_is_refused(monkeypatch, engine, version, mariadb, reason):
    with pytest.raises(ServerError, match=reason):
        check(monkeypatch, engine, version, mariadb=mariadb)


def test_mariadb_that_refuses_triggers_is_told_before_anything_is_created(monkeypatch):
    with pytest.raises(ServerError, match="set log_bin_trust_function_creators = ON there"):
        check(monkeypatch, "mariadb", (10, 11), distrusts=1, grants=(NONE, OWN))


@pytest.mark.parametrize(("distrusts", "grants"), [(0, (NONE, OWN)), (1, (SUPER, OWN)), (1, (ALL,))])
def test_mariadb_that_allows_triggers_is_used(monkeypatch, distrusts, grants):
    check(monkeypatch, "mariadb", (10, 11), distrusts=distrusts, grants=grants)


def test_postgresql_is_not_asked_for_a_binary_log(monkeypatch):
    check(monkeypatch, "postgresql", (15, 2), distrusts=1)

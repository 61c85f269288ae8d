"""The servers that a site starts."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import redis as client
from sqlalchemy import URL, Connection, NullPool, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from atoll.services import DATABASE_SERVERS, database_servers, engines
from atoll.services.contract import Settings
from atoll.services.database_urls import SHARED, USER, DatabaseOwner, own_directory
from atoll.services.engines import mariadb, postgresql, redis
from atoll.services.transfer import schema


@pytest.fixture
def password(settings) -> str:
    return settings.secrets["database"]


@pytest.mark.parametrize("engine", DATABASE_SERVERS)
def test_only_a_site_that_starts_it_has_its_files(settings, engine, password):
    service = DATABASE_SERVERS[engine]
    files = service.configuration(replace(settings, engine=engine))
    assert files
    assert all(password not in text for text in files.values())
    assert service.configuration(settings) == {}
    assert service.configuration(replace(settings, engine=engine, server="x://db")) == {}


@pytest.mark.parametrize(
    ("module", "full", "relaxed"),
    [
        (redis, "appendfsync always", "appendfsync everysec"),
        (mariadb, "innodb_flush_log_at_trx_commit = 1", "innodb_flush_log_at_trx_commit = 2"),
        (postgresql, "synchronous_commit = 'on'", "synchronous_commit = 'off'"),
    ],
)
def test_commits_are_flushed_as_the_site_says(settings, module, full, relaxed):
    engine = module.SERVICE.name
    assert full in module.configuration(replace(settings, engine=engine))[module.FILE]
    assert relaxed in module.configuration(replace(settings, engine=engine, durability="relaxed"))[module.FILE]


def test_any_character_of_a_path_is_quoted(settings):
    odd = replace(settings, directory=Path("/o'b \\ #\"x"))
    conf = postgresql.configuration(replace(odd, engine="postgresql"))[postgresql.FILE]
    assert f"hba_file = '/o''b \\\\ #\"x/etc/{postgresql.ACCESS_FILE}'\n" in conf
    assert 'dir "/o\'b \\\\ #\\"x/data/redis"\n' in redis.configuration(replace(odd, engine="redis"))[redis.FILE]
    odd = replace(settings, directory=Path("/o'b \\ #x"))
    assert 'datadir = "/o\'b \\\\ #x/data/mariadb"\n' in mariadb.configuration(replace(odd, engine="mariadb"))[mariadb.FILE]


def test_nothing_listens_in_a_network(settings):
    assert "port 0\n" in redis.configuration(replace(settings, engine="redis"))[redis.FILE]
    assert "skip-networking\n" in mariadb.configuration(replace(settings, engine="mariadb"))[mariadb.FILE]
    assert "listen_addresses = ''\n" in postgresql.configuration(replace(settings, engine="postgresql"))[postgresql.FILE]


def test_a_missing_program_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(mariadb, "SBIN", str(tmp_path))
    monkeypatch.setattr(postgresql, "DEBIAN", tmp_path)
    for engine, program in (("redis", "redis-server"), ("mariadb", "mariadbd"), ("postgresql", "postgres")):
        problem, hint = engines.obstacle(engine)
        assert problem == f"{program} is not installed"
        assert hint.startswith("sudo apt-get install ")


@pytest.fixture
def paris(settings) -> Settings:
    """Return a site on Redis whose directory has a short path, as those of sockets must."""
    if not redis.installed():
        pytest.skip("redis-server is missing: scripts/packages redis-server")
    told = replace(settings, engine="redis", cloud="demo", secrets={**settings.secrets, "database": "a-password"})
    for directory in (told.data / "redis", told.sockets / "redis", told.etc / "redis"):
        directory.mkdir(parents=True)
    (told.etc / redis.FILE).write_text(redis.configuration(told)[redis.FILE])
    return told


@pytest.fixture
def start(paris) -> Iterator:
    processes: list[subprocess.Popen] = []

    def start_() -> subprocess.Popen:
        program = next(filter(shutil.which, redis.PROGRAMS))
        processes.append(subprocess.Popen([program, paris.etc / redis.FILE], stdout=subprocess.DEVNULL))
        deadline = time.monotonic() + 20
        while not redis._serves(paris):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return processes[-1]

    yield start_
    for process in processes:
        process.kill()
        process.wait()


def connection(paris: Settings, user: str | None = "atoll", password: str | None = "a-password") -> client.Redis:
    return client.Redis(unix_socket_path=str(paris.sockets / "redis/redis.sock"), username=user, password=password)


TRANSACTION = "redis.call('SET', KEYS[1], ARGV[1]); return redis.call('XADD', KEYS[2], '1-0', 'a', 'b')"


def test_redis_has_its_transactions_after_it_was_killed(paris, start):
    """Redis 7.0 replays transactions with the rights of the user `default`, and ignores them if that user has none."""
    first = start()
    keys = ("{demo.paris.nova}:meta", "{demo.paris.nova}:log")
    connection(paris).eval(TRANSACTION, 2, *keys, "whole")
    first.send_signal(signal.SIGKILL)
    first.wait()
    start()
    assert connection(paris).get(keys[0]) == b"whole"
    assert connection(paris).xlen(keys[1]) == 1


def test_redis_lets_in_nobody_else_and_the_site_to_its_own_keys_alone(paris, start):
    start()
    with pytest.raises(client.AuthenticationError):
        connection(paris, None, None).get("{demo.paris.nova}:meta")
    with pytest.raises(client.AuthenticationError):
        connection(paris, "default", "x").get("{demo.paris.nova}:meta")
    with pytest.raises(client.exceptions.NoPermissionError):
        connection(paris).get("{demo.lyon.nova}:meta")
    with pytest.raises(client.exceptions.NoPermissionError):
        connection(paris).flushall()


def test_other_sites_have_rights_on_the_shared_databases_alone(paris, start):
    theirs = {"atoll-lyon": hashlib.sha256(b"another-password").hexdigest()}
    (paris.etc / redis.FILE).write_text(redis.configuration(replace(paris, database_users=theirs))[redis.FILE])
    start()
    lyon = connection(paris, "atoll-lyon", "another-password")
    for name in SHARED:
        lyon.eval(TRANSACTION, 2, f"{{demo.paris.{name}}}:meta", f"{{demo.paris.{name}}}:log", "x")
    connection(paris).set("{demo.paris.glance}:meta", "x")
    for ask in (lyon.get, lyon.delete, lambda key: lyon.eval("return redis.call('GET', ARGV[1])", 0, key)):
        with pytest.raises(client.ResponseError, match=r"(?i)permission|can't access"):
            ask("{demo.paris.glance}:meta")
    assert connection(paris).get("{demo.paris.glance}:meta") == b"x"
    with pytest.raises(client.exceptions.NoPermissionError):
        lyon.acl_list()


def test_all_databases_are_shared_but_those_with_files_of_one_site():
    every = {name for names in schema.DATABASES.values() for name in names}
    assert set(SHARED) == every - {"glance"}


APPEAR = """
    import os, sys
    from atoll.namespaces import appear_as
    before = os.geteuid()
    appear_as(65534)
    open(sys.argv[1], "w").close()
    print(before, os.geteuid(), os.getegid(), os.access("/etc/shadow", os.R_OK) if before else "-")
"""


def test_a_process_appears_as_another_user_with_its_own_files(tmp_path):
    file = tmp_path / "made"
    run = [sys.executable, "-c", textwrap.dedent(APPEAR), file]
    done = subprocess.run(run, check=False, capture_output=True, text=True)
    if "PermissionError" in done.stderr or "unshare" in done.stderr:
        pytest.skip("user namespaces are not allowed here")
    assert done.stdout.split()[1:3] == ["65534", "65534"], done.stderr
    assert file.stat().st_uid == os.geteuid()


def test_postgresql_of_another_version_is_named(tmp_path, monkeypatch):
    (tmp_path / "99" / "bin").mkdir(parents=True)
    (tmp_path / "99" / "bin" / "postgres").touch()
    monkeypatch.setattr(postgresql, "DEBIAN", tmp_path)
    data = tmp_path / "data"
    assert postgresql._programs(data) == tmp_path / "99" / "bin"
    data.mkdir()
    (data / "PG_VERSION").write_text("14\n")
    with pytest.raises(SystemExit, match="PostgreSQL 14, which is not installed: install Debian's package postgresql-14"):
        postgresql._programs(data)


def test_mariadb_gives_the_site_the_rights_to_its_own_databases_alone(settings):
    statements = mariadb._accounts(replace(settings, cloud="demo"))
    assert "ON `demo\\_paris\\_%`.* TO" in statements
    assert "*.*" not in statements


def test_mariadb_gives_rights_to_databases_of_a_site_with_a_hyphen(settings):
    named = replace(settings, cloud="my-cloud", site="site-1")
    assert r"ON `my\_\_cloud\_site\_\_1\_%`.*" in mariadb._accounts(named)
    assert DatabaseOwner("my-cloud", "site-1").database_name("keystone", "mariadb") == "my__cloud_site__1_keystone"


def test_mariadb_has_one_statement_a_line_and_its_file_is_private(settings):
    statements = mariadb._accounts(settings).splitlines()
    assert len(statements) == 3
    assert all(line.endswith(";") for line in statements)
    assert Path(mariadb.FILE).name == "my.cnf"


POSTGRESQL = """
    import os, sys
    from types import SimpleNamespace
    from atoll.services.engines import postgresql
    postgresql.become = lambda _child, command, _ready: os.execv(command[0], command)
    postgresql.run(SimpleNamespace(arguments={"directory": sys.argv[1]}))
"""


@pytest.fixture
def lyon(settings) -> Iterator[Settings]:
    """Yield a site whose PostgreSQL runs."""
    if not postgresql.installed():
        pytest.skip("PostgreSQL is missing: scripts/packages postgresql")
    told = replace(settings, engine="postgresql", cloud="demo")
    for name, content in postgresql.configuration(told).items():
        (told.etc / name).parent.mkdir(parents=True, exist_ok=True)
        (told.etc / name).write_text(content)
    told.data.mkdir()
    told.save()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(POSTGRESQL), told.directory], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 120
        while not postgresql._serves(postgresql._programs(told.data / "postgresql"), own_directory("postgresql", told.sockets)):
            if process.poll() is not None:
                error = process.communicate()[1]
                if "PermissionError" in error or "unshare" in error:
                    pytest.skip("user namespaces are not allowed here")
                pytest.fail(error)
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield told
    finally:
        process.send_signal(signal.SIGINT)  # a fast shutdown
        process.communicate()


@contextmanager
def connected(url: str | URL) -> Iterator[Connection]:
    with create_engine(url, poolclass=NullPool).connect() as connection:
        yield connection


def test_postgresql_gives_the_site_no_more_than_its_own_databases(lyon):
    database_servers.create(lyon, "nova")
    with connected(lyon.database("nova")) as connection:
        connection.execute(text("create table t (x text)"))
        rights = "rolsuper, rolcreaterole, rolreplication, rolbypassrls, rolcreatedb"
        assert connection.execute(text(f"select {rights} from pg_roles where rolname = current_user")).one() == (*[False] * 4, True)
        owner = "select pg_get_userbyid(datdba) from pg_database where datname = 'demo_paris_nova'"
        assert connection.execute(text(owner)).scalar() == USER
        connection.commit()
        for statement in (
            "copy t from '/etc/hostname'",
            "copy t to program 'cat'",
            "select pg_read_file('postgresql.conf')",
            "create role another superuser",
            "alter role postgres password 'x'",
        ):
            with pytest.raises(DBAPIError, match=r"permission denied|must be"):
                connection.execute(text(statement))
            connection.rollback()
        database_servers.drop(lyon, ["nova"])  # although there is a connection
        assert not database_servers.has(lyon, "nova")
    superuser = make_url(lyon.database_server).set(database="postgres", username=postgresql.SUPERUSER)
    with pytest.raises(DBAPIError, match=r"pg_hba\.conf"), connected(superuser):
        pass

"""The field `database` of a site."""

import pytest
from refusals import refusal

from atoll.cloud import dump_cloud, parse_cloud
from atoll.cloud.databases import parse_database, with_password, without_password
from atoll.errors import AtollError


def cloud(database: str, more: str = ""):
    return parse_cloud(f"sites:\n- name: paris\n  database: {database}\n{more}", "c.yaml")


def engine(database: str) -> str:
    return cloud(database).sites[0].database.engine


def complaint(database: str, more: str = "") -> str:
    return refusal("cloud.invalid", cloud, database, more)


@pytest.mark.parametrize(
    ("database", "expected"),
    [
        ("sqlite", "sqlite"),
        ("redis://10.0.0.1", "redis"),
        ("rediss://atoll@db:6380/1?ca=/ca.pem", "redis"),
        ("redis://localhost?socket=/run/redis.sock", "redis"),
        ("redis+sentinel://a:26379?service=main&sentinel=b:26379&sentinel=c:26379", "redis"),
        ("mysql+pymysql://atoll@10.0.0.1:3306", "mariadb"),
        ("postgresql+psycopg://atoll@[fd00::1]:5432/", "postgresql"),
        ("{start: redis}", "redis"),
        ("{start: mariadb}", "mariadb"),
        ("{start: postgresql}", "postgresql"),
        ("{url: 'redis://atoll@db', password_file: /etc/p}", "redis"),
    ],
)
def test_engine_is_known_and_the_cloud_comes_back(database, expected):
    made = cloud(database)
    assert made.sites[0].database.engine == expected
    assert parse_cloud(dump_cloud(made), "again") == made


def test_a_site_without_the_field_has_sqlite():
    made = parse_cloud("sites: [{name: paris}]", "c.yaml")
    assert made.sites[0].database.engine == "sqlite"
    assert "database" not in dump_cloud(made)


@pytest.mark.parametrize(
    ("database", "expected"),
    [
        ("mysql://db", "begins with one of redis"),
        ("sqlite:///x.db", "begins with one of redis"),
        ("etcd", "begins with one of redis"),
        ("{start: galera}", "can't start a Galera cluster, which needs nodes on several machines: expected the URL of an existing cluster"),
        ("{}", "expected `sqlite`, the URL"),
        ("[redis]", "expected `sqlite`, the URL"),
        ("true", "expected `sqlite`, the URL"),
        ("{start: redis, url: 'redis://db'}", "expected either `url` or `start`"),
        ("{url: 'redis://db', password_file: /p}", "expected a `url` with the user"),
        ("{start: redis, password_file: /p}", "expected a `url` with the user"),
        ("{url: 'redis://a@db', password_file: p}", "the absolute path of a file"),
        ("postgresql+psycopg://a@db?sslrootcert=/ca.pem", "sslrootcert has no effect without verification: expected sslmode=verify-full"),
        ("postgresql+psycopg://a@db?sslmode=require&sslrootcert=/ca.pem", "sslrootcert has no effect"),
        ("postgresql+psycopg://a@?host=10.0.0.1", "the parameter host is for Unix sockets: expected an absolute path"),
        ("mysql+pymysql://a@db?unix_socket=x", "the parameter unix_socket is for Unix sockets: expected an absolute path"),
        ("postgresql+psycopg://a@db?service=x", "unknown parameter 'service'"),
        ("postgresql+psycopg://a@db?passfile=/x", "unknown parameter 'passfile'"),
        ("postgresql+psycopg://a@db?options=-c", "unknown parameter 'options'"),
        ("postgresql+psycopg://a@db?plugin=x", "unknown parameter 'plugin'"),
        ("postgresql+psycopg://a@db?%70lugin=x", "unknown parameter 'plugin'"),
        ("mysql+pymysql://a@db?read_default_file=/x", "unknown parameter 'read_default_file'"),
        ("mysql+pymysql://a@db?local_infile=1", "unknown parameter 'local_infile'"),
        ("redis://db?replica=/x", "unknown parameter 'replica'"),
        ("redis://db?wait=1&wait=2", "is given twice"),
        ("redis://db?wait=many", "wait=many: expected a whole number"),
        ("redis://db/abc", "expected the number of a Redis database"),
        ("redis+sentinel://db", "belong together"),
        ("redis://db:70000", "expected `sqlite`, the URL"),
        ("redis:///0", "expected the server's name in the URL, or the parameter socket"),
        ("'redis://db#x'", "without `#`"),
        ("mysql+pymysql://db", "expected a user"),
        ("postgresql+psycopg://atoll@db/nova", "without the name of a database"),
        ("postgresql+psycopg://atoll@db?dbname=x", "unknown parameter 'dbname'"),
        ("'redis://db /0'", "expected `sqlite`, the URL"),
    ],
)
def test_another_value_is_refused_in_one_line(database, expected):
    message = complaint(database)
    assert message.startswith("c.yaml:3: sites[0].database")
    assert expected in message


@pytest.mark.parametrize(
    "database",
    [
        "redis://atoll:GEHEIM@db",
        "'redis://:GEHEIM@db'",
        "mysql+pymysql://atoll:GEHEIM@db",
        "'postgresql+psycopg://atoll:GEHEIM/x@db'",
        "redis://atoll:GEHEIM@db:port",
        "{url: 'redis://atoll:GEHEIM@db'}",
        "{url: 'nonsense://atoll:GEHEIM@db', start: redis}",
        "redis://db?password=GEHEIM",
    ],
)
def test_a_password_in_a_url_is_refused_and_not_shown(database):
    assert "GEHEIM" not in complaint(database)


TOPOLOGY = "topology: {preset: mesh}\n"


def test_a_site_in_a_topology_reaches_no_server_by_tcp():
    assert "{start: redis}" in complaint("redis://10.0.0.1", f"- name: lyon\n{TOPOLOGY}")
    for database in ("{start: redis}", "redis://localhost?socket=/run/redis.sock"):
        assert cloud(database, f"- name: lyon\n{TOPOLOGY}").topology


def test_names_that_would_be_too_long_for_a_server_are_refused():
    long = "n" * 30
    text = f"name: {long}\nsites:\n- {{name: {long}, database: {{start: DB}}}}\n"
    with pytest.raises(AtollError, match="too long"):
        parse_cloud(text.replace("DB", "postgresql"), "c.yaml")
    assert parse_cloud(text.replace("DB", "redis"), "c.yaml")


def test_a_compute_site_has_no_database():
    text = "sites:\n- name: paris\n- {name: edge, kind: compute, control: paris, database: sqlite}\n"
    with pytest.raises(AtollError, match="has its control site's: expected no `database`"):
        parse_cloud(text, "c.yaml")


def test_load_balancers_are_in_sqlite_alone():
    text = "sites:\n- {name: paris, network_services: [load-balancer], database: {start: redis}}\ntopology: {preset: mesh}\n"
    with pytest.raises(AtollError, match="load-balancer works only with SQLite"):
        parse_cloud(text, "c.yaml")


def test_password_is_quoted_and_can_be_removed():
    url = with_password("mysql+pymysql://atoll@10.0.0.1:3306?ssl_ca=/ca.pem", "p@:/?")
    assert url == "mysql+pymysql://atoll:p%40%3A%2F%3F@10.0.0.1:3306?ssl_ca=/ca.pem"
    assert without_password(url) == "mysql+pymysql://atoll@10.0.0.1:3306?ssl_ca=/ca.pem"
    assert without_password("redis://db/1") == "redis://db/1"


@pytest.mark.parametrize(
    ("text", "engine_", "field"),
    [
        ("sqlite", "sqlite", {}),
        ("start:mariadb", "mariadb", {"start": "mariadb"}),
        ("redis://10.0.0.1:6379", "redis", {"url": "redis://10.0.0.1:6379"}),
    ],
)
def test_a_place_on_the_command_line(text, engine_, field):
    found = parse_database(text)
    assert (found.engine, found.model_dump(exclude_defaults=True)) == (engine_, field)


@pytest.mark.parametrize(
    ("text", "password_file"),
    [
        ("start:oracle", None),
        ("start:galera", None),
        ("start:", None),
        ("mariadb", None),
        ("mysql+pymysql://atoll:GEHEIM@db", None),
        ("redis://db", "/secret"),
        ("sqlite", "/secret"),
    ],
)
def test_a_wrong_place_on_the_command_line_is_one_line(text, password_file):
    assert "GEHEIM" not in refusal("cloud.invalid", parse_database, text, password_file)

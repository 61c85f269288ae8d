from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from atoll.stores.errors import BadURL
from atoll.stores.url import parse

GOOD = "redis://user:secret@10.0.0.1:6400/3?replica=/var/x.db&log=nova&cloud=demo&site=paris"


def test_all_parts():
    settings = parse(make_url(f"{GOOD}&isolation=snapshot&durability=relaxed&reads=fresh&wait=1&timeout=2.5&stride=8&history=10"))
    assert (settings.host, settings.port, settings.database, settings.username, settings.password) == (
        "10.0.0.1",
        6400,
        3,
        "user",
        "secret",
    )
    assert (settings.replica, settings.log, settings.cloud, settings.site) == (Path("/var/x.db"), "nova", "demo", "paris")
    assert (settings.isolation, settings.durability, settings.reads) == ("snapshot", "relaxed", "fresh")
    assert (settings.wait, settings.timeout, settings.stride, settings.history) == (1, 2.5, 8, 10)
    assert "secret" not in repr(settings)


def test_sentinels():
    url = "rediss+sentinel://s1/0?service=main&sentinel=s2:26380&sentinel=[::1]:26381&replica=/x&log=n&cloud=c&site=s"
    settings = parse(make_url(url))
    assert (settings.tls, settings.service, settings.host, settings.port) == (True, "main", "s1", 26379)
    assert settings.sentinels == (("s2", 26380), ("::1", 26381))


def test_the_scheme_for_oslo_db():
    settings = parse(make_url("sqlite+rediss://s1/0?service=main&replica=/x&log=n&cloud=c&site=s"))
    assert (settings.tls, settings.service, settings.port) == (True, "main", 26379)
    assert parse(make_url(GOOD.replace("redis://", "sqlite+redis://"))) == parse(make_url(GOOD))


def test_the_path_may_name_the_log_so_that_one_query_serves_several_logs():
    short = parse(make_url("sqlite+redis://h:1/3/demo.paris.nova?replicas=/var/r&cloud=demo&site=lyon"))
    assert short == parse(make_url("redis://h:1/3?replica=/var/r/demo.paris.nova.db&log=demo.paris.nova&cloud=demo&site=lyon"))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://h/0/nova?cloud=c&site=s", "/0/LOG and the parameter replicas belong together"),
        ("redis://h/0?replicas=/x&cloud=c&site=s", "/0/LOG and the parameter replicas belong together"),
        ("redis://h/0/nova?replicas=/x&log=nova&cloud=c&site=s", "without replica and log"),
        ("redis://h/0/a/b?replicas=/x&cloud=c&site=s", "expected a path such as /0/LOG"),
        ("redis://h/x/nova?replicas=/x&cloud=c&site=s", "/x: expected the number of a Redis database"),
        ("redis://h/0?replica=/x&log=nova&cloud=c", "add the parameter site"),
        ("redis://h/0", "add the parameters replica, log, cloud, site"),
        (f"{GOOD}&isolation=none", "isolation=none: expected galera, snapshot or serializable"),
        (f"{GOOD}&wait=-1", "wait=-1: expected a whole number from 0 to 100"),
        (f"{GOOD}&timeout=0", "timeout=0: expected seconds"),
        (f"{GOOD}&colour=blue", "unknown parameter 'colour'"),
        (f"{GOOD}&site=lyon", "'site' is given twice"),
        (GOOD.replace("/var/x.db", "x.db"), "expected an absolute path"),
        (GOOD.replace("/3?", "/nova?"), "/nova: expected the number of a Redis database"),
        (GOOD.replace("log=nova", "log={a}"), "expected a name without spaces and braces"),
        (f"{GOOD}&service=main", "redis+sentinel:// and the parameter service belong together"),
        (GOOD.replace("redis://", "redis+sentinel://") + "&service=m&sentinel=nowhere", "sentinel=nowhere: expected HOST:PORT"),
        (GOOD.replace("redis://", "sqlite://"), "scheme 'sqlite'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(url, message):
    with pytest.raises(BadURL) as error:
        parse(make_url(url))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)

"""SQLAlchemy URLs of a site's databases at a server. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

SQLITE = "sqlite"
REDIS = "redis"
POSTGRESQL = "postgresql"
MARIADB = "mariadb"

USER = "atoll"
"""The user of a site's services at a server that the site starts."""


@dataclass(frozen=True)
class DatabaseOwner:
    """The site that databases belong to.

    Names of clouds and sites have neither dots nor underscores, so the names that the methods return are unique.
    """

    cloud: str
    site: str

    def database_name(self, name: str, engine: str) -> str:
        """Return the name of a database at a server of MariaDB or PostgreSQL.

        With MariaDB, two underscores stand for each hyphen, because Keystone's first migration does not quote the name
        (`27e647c0fad4_initial_version`). No other name of a cloud and a site becomes the same.
        """
        made = f"{self.cloud}_{self.site}"
        return f"{made.replace('-', '__') if engine == MARIADB else made}_{name}"

    def log_name(self, name: str) -> str:
        """Return the name of the log of a database in Redis."""
        return f"{self.cloud}.{self.site}.{name}"


def own_server(engine: str, sockets: Path, password: str) -> str:
    """Return the URL of the server that a site starts.

    Args:
        engine: `redis`, `mariadb` or `postgresql`.
        sockets: the directory of the site's sockets.
        password: the password of `USER`.
    """
    account = f"{USER}:{quote(password, safe='')}"
    directory = own_directory(engine, sockets)
    if engine == REDIS:
        return f"redis://{account}@localhost/0?{urlencode({'socket': str(directory / REDIS_SOCKET)})}"
    if engine == MARIADB:
        return f"mysql+pymysql://{account}@localhost?{urlencode({'unix_socket': str(directory / MARIADB_SOCKET)})}"
    return f"postgresql+psycopg://{account}@?{urlencode({'host': str(directory)})}"


REDIS_SOCKET = "redis.sock"
MARIADB_SOCKET = "mariadb.sock"
POSTGRESQL_SOCKET = ".s.PGSQL.5432"


def own_directory(engine: str, sockets: Path) -> Path:
    """Return the directory of the socket of a server that a site starts.

    It is not the directory of the bus's sockets, because the bus tries to connect to every socket in that directory.
    """
    return sockets / engine


def of_server(server: str, name: str) -> str:
    """Return the URL of a database at a server of MariaDB or PostgreSQL."""
    parts = urlsplit(server)
    query = parts.query
    if parts.scheme.startswith(POSTGRESQL):
        query = "&".join(filter(None, (query, "plugin=atoll-postgresql")))
    return urlunsplit(parts._replace(path=f"/{name}", query=query))


def of_store(server: str, replica: Path, owner: DatabaseOwner, name: str, *, durable: bool) -> str:
    """Return the URL of a database on Redis (`atoll.stores`), with the scheme that oslo.db treats as SQLite.

    Args:
        server: the URL of Redis.
        replica: the path of the site's replica.
        owner: the site.
        name: the name of the database in the site, such as `nova_api`.
        durable: whether a commit must be on Redis's disk when COMMIT returns.
    """
    parts = urlsplit(server)
    own = {"replica": str(replica), "log": owner.log_name(name), "cloud": owner.cloud, "site": owner.site}
    own |= {} if durable else {"durability": "relaxed"}
    scheme = "sqlite+rediss" if parts.scheme.startswith("rediss") else "sqlite+redis"
    query = "&".join(filter(None, (parts.query, urlencode(own))))
    return urlunsplit(parts._replace(scheme=scheme, path=parts.path if parts.path.strip("/") else "/0", query=query))


GLANCE = "glance"
"""The database that sites do not share: the data of an image are files of one site."""

SHARED = ("keystone", "placement", "neutron", "nova_api", "nova_cell0", "nova_cell1")
"""The databases that sites share; those of other services stay with each site."""

SHARED_TIMEOUT_S = 10
"""Seconds for which a commit to a shared database is sent again before it fails, unless the server's URL says otherwise."""


def of_shared_store(server: str, replicas: Path, owner: DatabaseOwner, name: str, site: str) -> str:
    """Return the URL, for one site, of a database on Redis that several sites share.

    The URLs of a site's databases differ only in their paths, so that Nova can make one from another (`cell_template`).

    Args:
        server: the URL of Redis.
        replicas: the directory of the site's replicas.
        owner: the site whose databases they are.
        name: the name of the database.
        site: the site that uses the URL.
    """
    parts = urlsplit(server)
    own = {"replicas": str(replicas), "cloud": owner.cloud, "site": site}
    said = dict(parse_qsl(parts.query))
    if "timeout" not in said:
        own["timeout"] = str(SHARED_TIMEOUT_S)
    scheme = "sqlite+rediss" if parts.scheme.startswith("rediss") else "sqlite+redis"
    query = "&".join(filter(None, (parts.query, urlencode(own))))
    account, at, place = parts.netloc.rpartition("@")
    port = parts.port or (SENTINEL_PORT if "service" in said else REDIS_PORT)  # Nova's templates need it
    netloc = f"{account}{at}{place if parts.port else f'{place}:{port}'}"
    return urlunsplit(
        parts._replace(scheme=scheme, netloc=netloc, path=f"/{parts.path.strip('/') or '0'}/{owner.log_name(name)}", query=query)
    )


REDIS_PORT = 6379
SENTINEL_PORT = 26379


def cell_template(url: str) -> str:
    """Return the template of a shared database's URL for Nova's table of cells, which all sites read.

    Each site's Nova fills it in with the parts of its own option `[database] connection`: scheme, account, address and query. The query
    names the directory of the site's own replicas. `CellMapping.format_db_url` in nova/objects/cell_mapping.py has the rules.

    Args:
        url: the URL of the cell's database for any of the sites (`of_shared_store`).
    """
    parts = urlsplit(url)
    account = "" if parts.username is None else "{username}@" if parts.password is None else "{username}:{password}@"
    return f"{{scheme}}://{account}{{hostname}}:{{port}}{parts.path}?{{query}}"


BUS_TEMPLATE = "{scheme}:///{path}"
"""The template of the bus's URL in the same table: each site's processes enter the bus at the sockets of their own site."""

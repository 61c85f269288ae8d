"""The place of a site's databases, as the cloud's YAML names it.

It is SQLite, an existing server, a server that the site starts, or the databases of another site.

A field's `description` completes the sentence "expected …" in error messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import SplitResult, parse_qsl, quote, urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from atoll.errors import AtollError

if TYPE_CHECKING:
    from atoll.cloud.model import Site

SQLITE = "sqlite"

START = "start:"
"""Prefix of a command's argument for a server that the site starts, such as `start:redis`."""

ENGINES: dict[str, str] = {
    "redis": "redis", "rediss": "redis", "redis+sentinel": "redis", "rediss+sentinel": "redis", "mysql+pymysql": "mariadb",
    "postgresql+psycopg": "postgresql",
}  # fmt: skip
"""The engine, by the scheme of the server's URL."""

PARAMETERS: dict[str, frozenset[str]] = {
    "redis": frozenset({"isolation", "reads", "wait", "timeout", "socket", "ca", "cert", "key", "service", "sentinel"}),
    "mariadb": frozenset({"unix_socket", "ssl_ca", "ssl_cert", "ssl_key"}),
    "postgresql": frozenset({"host", "sslmode", "sslrootcert", "sslcert", "sslkey"}),
}
"""The parameters that the user may give in a URL, by engine; Atoll sets all others."""

SHAREABLE = "redis"
"""The engine whose databases several sites can share."""

SOCKETS = {"redis": "socket", "mariadb": "unix_socket", "postgresql": "host"}
"""The URL parameter that names a Unix socket (for PostgreSQL the socket's directory), by engine."""

VERIFYING = ("verify-full", "verify-ca")
"""The values of `sslmode` with which PostgreSQL's driver refuses a server without a certificate of `sslrootcert`."""

GALERA = "galera"
NO_GALERA = (
    "a site can't start a Galera cluster, which needs nodes on several machines: expected the URL of an existing cluster, "
    "such as mysql+pymysql://atoll@10.0.0.1, or {start: mariadb}"
)

REPEATABLE = frozenset({"sentinel"})

EXPECTED = "`sqlite`, the URL of a server such as redis://10.0.0.1:6379, or a mapping such as {start: redis}"

LONGEST_NAMES = 50
"""Greatest number of characters of the names of cloud and site together where a server holds databases of these names.

PostgreSQL's names of databases have 63 characters, of which `_nova_cell0` and a separator take twelve.
"""


class Database(BaseModel):
    """The engine of a site's databases; see docs/how-to/databases.md. In YAML it may also be the word `sqlite`, or the URL alone.

    Attributes:
        url: the URL of an existing server, without a password: `redis://USER@HOST:PORT/0`, `mysql+pymysql://USER@HOST:PORT`,
            `postgresql+psycopg://USER@HOST:PORT`. The site creates databases of its own on this server.
        password_file: absolute path of a file that contains only the password of the user in `url`. Each `atoll up` reads it. Only its
            owner may have access to it.
        start: the engine that the site starts itself, from Debian's packages, with its data in the site's directory.
        of: the name of another site of this cloud, on Redis, whose databases this site shares; see docs/how-to/share-a-database.md.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    url: str | None = Field(default=None, description="the URL of a server without a password, such as redis://10.0.0.1:6379")
    password_file: str | None = Field(default=None, pattern="^/", description="the absolute path of a file, such as /etc/redis.password")
    start: Literal["redis", "postgresql", "mariadb"] | None = Field(default=None, description="`redis`, `postgresql` or `mariadb`")
    of: str | None = Field(default=None, pattern=r"^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$", description="the name of another full site")

    @property
    def engine(self) -> str:
        """The engine: `sqlite`, `redis`, `mariadb` or `postgresql`; only a database on Redis can be another site's."""
        if self.of:
            return SHAREABLE
        return ENGINES[urlsplit(self.url).scheme] if self.url else self.start or SQLITE

    @property
    def is_remote(self) -> bool:
        """True if the server has a TCP address, which a site in a network of its own can't reach."""
        return bool(self.url) and SOCKETS[self.engine] not in dict(parse_qsl(urlsplit(self.url or "").query))

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str | None) -> str | None:
        complaint = complaint_of_url(url) if url is not None else ""
        if complaint:
            # The message does not repeat the URL, which may contain a password.
            raise PydanticCustomError("database_invalid", "{text}", {"text": complaint})
        return url

    @field_validator("start", mode="before")
    @classmethod
    def _check_start(cls, start: object) -> object:
        if start == GALERA:
            raise PydanticCustomError("database_invalid", "{text}", {"text": NO_GALERA})
        return start

    @model_validator(mode="after")
    def _check_one(self) -> Database:
        if self.of and (self.url or self.start):
            text = f"the databases are those of {self.of}, with its server and its isolation: expected `of` alone"
            raise PydanticCustomError("database_invalid", "{text}", {"text": text})
        if self.url and self.start:
            raise PydanticCustomError("database_invalid", "{text}", {"text": "expected either `url` or `start`"})
        if self.password_file and not (self.url and urlsplit(self.url).username):
            raise PydanticCustomError(
                "database_invalid", "{text}", {"text": "`password_file` is given: expected a `url` with the user whose password it holds"}
            )
        return self


def read_database(value: object) -> object:
    """Return a value of the field `database` as a mapping: the word `sqlite` and a URL are short forms of mappings.

    Raises:
        PydanticCustomError: the value is not permitted; the message does not repeat it, because it may contain a password.
    """
    if isinstance(value, Database):
        return value
    if value == SQLITE:
        return {}
    if isinstance(value, str):
        if complaint := complaint_of_url(value):
            raise PydanticCustomError("database_invalid", "{text}", {"text": complaint})
        return {"url": value}
    if not isinstance(value, Mapping) or not {"url", "start", "of"} & value.keys():
        raise PydanticCustomError("database_invalid", "{text}", {"text": f"expected {EXPECTED}"})
    return value


def complaint_of_url(url: str) -> str:
    """Return a description of the error in the URL of a server, without the URL; empty if the URL is valid."""
    if not url.isascii() or not url.isprintable() or " " in url:
        return f"expected {EXPECTED}"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # whose text may contain a part of a password
        return f"expected {EXPECTED}"
    if parts.scheme not in ENGINES:
        return f"expected `sqlite`, a mapping such as {{start: redis}}, or a URL that begins with one of {', '.join(ENGINES)}"
    if parts.password is not None:
        return "expected a URL without a password, such as redis://atoll@10.0.0.1:6379; the password belongs in `password_file`"
    return next(_complaints_of_parts(parts), "")


def _complaints_of_parts(parts: SplitResult) -> Iterator[str]:
    engine = ENGINES[parts.scheme]
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    names = [name for name, _value in pairs]
    yield from _complaints_of_parameters(engine, pairs)
    if parts.fragment:
        yield "expected a URL without `#`"
    if not parts.hostname and SOCKETS[engine] not in names:
        yield f"expected the server's name in the URL, or the parameter {SOCKETS[engine]}"
    if engine != "redis" and not parts.username:
        yield "expected a user in the URL, such as atoll@10.0.0.1"
    if engine != "redis" and parts.path.strip("/"):
        yield "expected a URL without the name of a database: a site has databases of its own"
    if engine == "redis":
        yield from _complaints_of_store(parts)


def _complaints_of_parameters(engine: str, pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    names = [name for name, _value in pairs]
    for name in names:
        if name not in PARAMETERS[engine]:
            yield f"unknown parameter {name!r}: expected one of {', '.join(sorted(PARAMETERS[engine]))}"
        elif names.count(name) > 1 and name not in REPEATABLE:
            yield f"the parameter {name} is given twice: expected it once"
    if engine != "redis" and not dict(pairs).get(SOCKETS[engine], "/").startswith("/"):
        yield f"the parameter {SOCKETS[engine]} is for Unix sockets: expected an absolute path"
    if engine == "postgresql" and "sslrootcert" in names and dict(pairs).get("sslmode") not in VERIFYING:
        yield f"sslrootcert has no effect without verification: expected sslmode={' or sslmode='.join(VERIFYING)} beside it"


def _complaints_of_store(parts: SplitResult) -> Iterator[str]:
    """Yield the errors in a URL for Redis that the engine `atoll.stores` finds."""
    from atoll.stores.complaint import complaint_of

    more = "replica=/x&log=x&cloud=x&site=x"
    if complaint := complaint_of(urlunsplit(parts._replace(query=f"{parts.query}&{more}" if parts.query else more))):
        yield complaint


def with_password(url: str, password: str) -> str:
    """Return the URL of a server with the password of its user."""
    parts = urlsplit(url)
    account, at, host = parts.netloc.rpartition("@")
    secret = quote(password, safe="")
    return urlunsplit(parts._replace(netloc=f"{account}:{secret}{at}{host}"))


def without_password(url: str) -> str:
    """Return the URL of a server without the password of its user."""
    parts = urlsplit(url)
    account, at, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{account.partition(':')[0]}{at}{host}"))


def parse_database(text: str, password_file: str | None = None) -> Database:
    """Return the database that an argument of a command names.

    Args:
        text: `sqlite`, `start:ENGINE`, or the URL of a server.
        password_file: see `Database`.

    Raises:
        AtollError: `cloud.invalid`: the text names no database; the message does not repeat it, because it may contain a password.
    """
    started = text.removeprefix(START) if text.startswith(START) else None
    value: Any = {"start": started} if started is not None else {} if text == SQLITE else {"url": text}
    try:
        return Database.model_validate(value | ({"password_file": password_file} if password_file else {}))
    except ValidationError as error:
        [first, *_more] = error.errors(include_input=False, include_context=False, include_url=False)
    field = Database.model_fields[str(first["loc"][0])].description if first["loc"] else ""
    said = first["msg"] if first["type"] == "database_invalid" else f"expected {field}"
    raise AtollError("cloud.invalid", f"the place of the databases: {said}", f"`sqlite`, `{START}mariadb`, or the URL of a server")


def complaints_of_databases(cloud: str, sites: Sequence[Site], *, emulated: bool) -> Iterator[tuple[int, str]]:
    """Yield the errors in the databases of a cloud's sites, each as the index of the site and the message.

    Args:
        cloud: the cloud's name.
        sites: all sites of the cloud.
        emulated: whether each site has a network of its own.
    """
    for index, site in enumerate(sites):
        database: Any = site.database
        if emulated and database.is_remote:
            yield (
                index,
                (
                    "in a topology, a site's network leads only to other sites: "
                    f"expected a mapping such as {{start: {database.engine}}}, or a URL with the parameter {SOCKETS[database.engine]}"
                ),
            )
        elif database.engine != SQLITE and "load-balancer" in site.network_services:
            yield index, "the network service load-balancer works only with SQLite: expected `sqlite`, or no `load-balancer`"
        elif database.engine in {"mariadb", "postgresql"} and len(cloud) + len(site.name) > LONGEST_NAMES:
            yield (
                index,
                f"names of databases would be too long: expected at most {LONGEST_NAMES} characters in those of cloud and site",
            )

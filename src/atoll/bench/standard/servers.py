"""MariaDB and RabbitMQ from Debian's packages, on the loopback interface and in the experiment's own directories."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from atoll.bench.standard.daemons import Program
from atoll.bench.workspace import HOST
from atoll.errors import AtollError

USER = "openstack"
RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""The server program. Debian's wrapper /usr/sbin/rabbitmq-server would switch to an account of its own."""

_PACKAGES = {
    "mariadb-server": ("mariadbd", "mariadb-install-db", "mariadb"),
    "rabbitmq-server": (str(RABBITMQ), "epmd"),
}

_MODULES = ("gunicorn", "pymysql")

_CONFIGURATION = "rabbitmq.config"


def check_requirements() -> None:
    """Check that all required packages are installed.

    Raises:
        AtollError: `bench.requirement`: packages are missing, which the message names.
    """
    if not all(map(find_spec, _MODULES)):
        message = f"the usual deployment needs {' and '.join(_MODULES)} beside atoll"
        raise AtollError("bench.requirement", message, "`make install`")
    check_packages("the usual deployment", _PACKAGES)


def check_packages(who: str, packages: Iterable[str]) -> None:
    """Check that Debian packages are installed.

    Args:
        who: the experiment that needs them, for the error message.
        packages: the names of packages: "mariadb-server" or "rabbitmq-server".

    Raises:
        AtollError: `bench.requirement`: packages are missing, which the message names.
    """
    missing = [package for package in packages if not all(map(_find, _PACKAGES[package]))]
    if missing:
        hint = f"`sudo apt-get install --no-install-recommends {' '.join(missing)}`; they need not be started"
        raise AtollError("bench.requirement", f"{who} needs {' and '.join(missing)} from Debian's packages", hint)


def _find(program: str) -> str | None:
    # Search /usr/sbin too, which only root's PATH contains.
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin"]))


def _program(name: str) -> str:
    found = _find(name)
    assert found is not None  # `check_requirements`
    return found


class MariaDB:
    """A MariaDB server with its defaults, except OpenStack's character set and a higher limit of connections.

    Args:
        directory: the server's own directory, accessible to its owner alone.
        port: the port to listen on.
        password: the password of the account that may use every database.
    """

    def __init__(self, directory: Path, port: int, password: str) -> None:
        self._data = directory / "data"
        self._socket = directory / "mariadb.sock"
        self._port = port
        self._password = password

    def url(self, database: str) -> str:
        """Return the SQLAlchemy URL of a database."""
        return f"mysql+pymysql://{USER}:{self._password}@{HOST}:{self._port}/{database}?charset=utf8mb3"

    def initialise(self) -> Program:
        """Return the program that creates the data directory."""
        arguments = ("--no-defaults", f"--datadir={self._data}", "--auth-root-authentication-method=normal", "--skip-test-db", *_as_root())
        return Program("mariadb-install-db", (_program("mariadb-install-db"), *arguments))

    def daemon(self) -> Program:
        """Return the program of the server."""
        arguments = (
            "--no-defaults",
            f"--datadir={self._data}",
            f"--socket={self._socket}",
            f"--pid-file={self._socket.with_suffix('.pid')}",
            f"--port={self._port}",
            f"--bind-address={HOST}",
            "--character-set-server=utf8mb3",
            "--collation-server=utf8mb3_general_ci",
            "--max-connections=1000",
            *_as_root(),
        )
        return Program("mariadb", (_program("mariadbd"), *arguments))

    def create(self, databases: Iterable[str]) -> Program:
        """Return the program that creates databases and the account, and denies root network access."""
        statements = [f"CREATE DATABASE {name};" for name in databases]
        statements.append(f"GRANT ALL ON *.* TO '{USER}'@'%' IDENTIFIED BY '{self._password}';")
        statements.append(f"SET PASSWORD FOR 'root'@'localhost' = PASSWORD('{self._password}');")
        script = self._socket.with_suffix(".sql")
        # Write the statements to a file, because other users can read command lines.
        script.touch(mode=0o600)
        script.write_text("\n".join(statements), encoding="utf-8")
        command = f"exec {_program('mariadb')} --no-defaults --socket={self._socket} --user=root < {script}"
        return Program("mariadb-create", ("/bin/sh", "-c", command))

    def is_up(self) -> bool:
        """Return whether the server accepts connections."""
        return self._socket.exists() and _greets(self._port, b"")


class RabbitMQ:
    """A RabbitMQ node with its defaults.

    Args:
        directory: the node's own directory, accessible to its owner alone.
        ports: the ports of AMQP, of Erlang's distribution, and of its port mapper.
        password: the password of its account.
        host: the address at which the node serves AMQP.
    """

    def __init__(self, directory: Path, ports: tuple[int, int, int], password: str, host: str = HOST) -> None:
        self._host = host
        self._directory = directory
        self._port, self._distribution_port, self._mapper_port = ports
        self._password = password

    @property
    def url(self) -> str:
        """The transport URL of oslo.messaging."""
        return f"rabbit://{USER}:{self._password}@{self._host}:{self._port}/"

    def configure(self) -> None:
        """Write the configuration of the node.

        It consists of Erlang terms: values in `rabbitmq.conf` cannot be escaped, and RabbitMQ 4 takes the text before a colon in a password
        for the name of the password's encryption.
        """
        settings = self._directory / _CONFIGURATION
        settings.touch(mode=0o600)
        account = f"{{default_user, {_binary(USER)}}}, {{default_pass, {_binary(self._password)}}}"
        settings.write_text(f"[{{rabbit, [{account}]}}].\n", encoding="utf-8")
        (self._directory / "enabled_plugins").write_text("[].\n", encoding="utf-8")
        (self._directory / "rabbitmq-env.conf").write_text("", encoding="utf-8")

    def daemons(self) -> list[Program]:
        """Return the programs of the node and of its port mapper, which would otherwise start for the whole machine."""
        mapper = (_program("epmd"), "-address", HOST, "-port", str(self._mapper_port))
        environment = self._environment()
        return [Program("epmd", mapper, environment), Program("rabbitmq", (str(RABBITMQ),), environment)]

    def is_up(self) -> bool:
        """Return whether the node answers AMQP."""
        return _greets(self._port, b"AMQP\x00\x00\x09\x01", self._host)

    def _environment(self) -> dict[str, str]:
        directory = self._directory
        return {
            "HOME": str(directory),  # the directory of Erlang's cookie
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_EPMD_PORT": str(self._mapper_port),
            "RABBITMQ_NODENAME": f"bench-{self._port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": self._host,
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CONF_ENV_FILE": str(directory / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(directory / _CONFIGURATION),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_PID_FILE": str(directory / "rabbitmq.pid"),
        }


def _binary(text: str) -> str:
    """Return a text as Erlang writes a binary."""
    return f"<<{','.join(map(str, text.encode()))}>>"


def _as_root() -> tuple[str, ...]:
    # MariaDB's programs refuse to run as root without this option.
    return ("--user=root",) if os.geteuid() == 0 else ()


def _greets(port: int, hello: bytes, host: str = HOST) -> bool:
    """Return whether a server answers `hello` with at least one byte."""
    try:
        with socket.create_connection((host, port), timeout=5) as connection:
            connection.sendall(hello)
            return bool(connection.recv(1))
    except OSError:
        return False

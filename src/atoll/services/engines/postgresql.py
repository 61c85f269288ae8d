"""PostgreSQL of a site, which listens at a Unix socket alone.

The services' user owns the databases that it creates, and has no other right: PostgreSQL's superuser could run programs of the machine and
read its files. The superuser exists, because PostgreSQL needs one, and nobody can connect as it.

PostgreSQL refuses to run as root. If the site's user is root, the server runs in a user namespace, in which that user appears as an
ordinary one: it has the rights of root's files and no capability.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from atoll.files import flush, make_directory
from atoll.namespaces import appear_as
from atoll.runtime.child import Child
from atoll.runtime.program import become
from atoll.runtime.spec import ROOT
from atoll.services.contract import Service, Settings
from atoll.services.database_urls import POSTGRESQL, POSTGRESQL_SOCKET, USER, own_directory

PROGRAM, PACKAGE = "postgres", "postgresql"

DEBIAN = Path("/usr/lib/postgresql")
"""Directory with the programs of each version."""

CONNECTIONS = 300
"""Greatest number of connections; each of a site's eight SQLAlchemy engines may briefly have 55 (oslo.db's pool), and usually has five."""

NOBODY = 65534

SUPERUSER = "postgres"
"""The user that owns the server's own tables; it has no password, and no connection is accepted from it."""

FILE = "postgresql/postgresql.conf"
ACCESS_FILE = "postgresql/pg_hba.conf"


def installed() -> bool:
    """Return whether the programs of PostgreSQL are installed on this machine."""
    return bool(_versions()) or all(map(shutil.which, (PROGRAM, "initdb", "pg_isready")))


def _versions() -> list[int]:
    return sorted(int(path.parent.parent.name) for path in DEBIAN.glob("[0-9]*/bin/postgres") if path.parent.parent.name.isdigit())


def configuration(settings: Settings) -> dict[str, str]:
    """Render postgresql.conf and pg_hba.conf."""
    if settings.engine != POSTGRESQL or settings.server:
        return {}
    options: dict[str, str | int] = {
        "hba_file": str(settings.etc / ACCESS_FILE),
        "listen_addresses": "",
        "unix_socket_directories": str(own_directory(POSTGRESQL, settings.sockets)),
        "unix_socket_permissions": "0700",
        "max_connections": CONNECTIONS,
        "shared_buffers": "64MB",
        "synchronous_commit": "on" if settings.durable else "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_min_messages": "info" if settings.debug else "warning",
    }
    text = "".join(f"{name} = '{_quoted(str(value))}'\n" for name, value in options.items())
    return {FILE: text, ACCESS_FILE: f"local all {USER} scram-sha-256\n"}


def _quoted(value: str) -> str:
    return value.replace("\\", r"\\").replace("'", "''")


def run(child: Child) -> None:
    """Create the data directory if there is none, and become PostgreSQL."""
    settings = Settings.load(child.arguments["directory"])
    make_directory(own_directory(POSTGRESQL, settings.sockets))
    if os.geteuid() == 0:
        appear_as(NOBODY)
    data = settings.data / POSTGRESQL
    programs = _programs(data)
    _create(settings, data, programs)
    sockets = own_directory(POSTGRESQL, settings.sockets)
    become(
        child,
        (str(programs / PROGRAM), "-D", str(data), "-c", f"config_file={settings.etc / FILE}"),
        lambda: _serves(programs, sockets),
    )


def _programs(data: Path) -> Path:
    """Return the directory of the programs: of the version that made the data, otherwise of the newest one.

    Raises:
        SystemExit: that version is not installed.
    """
    versions = _versions()
    if not versions and (found := shutil.which(PROGRAM)):
        return Path(found).parent
    wanted = int((data / "PG_VERSION").read_text(encoding="ascii")) if data.exists() else versions[-1] if versions else 0
    if wanted not in versions:
        raise SystemExit(f"{data} is of PostgreSQL {wanted}, which is not installed: install Debian's package {PACKAGE}-{wanted}")
    return DEBIAN / str(wanted) / "bin"


def _create(settings: Settings, data: Path, programs: Path) -> None:
    if data.exists():
        return
    temporary = data.with_suffix(".new")
    shutil.rmtree(temporary, ignore_errors=True)
    options = ["-U", SUPERUSER, "--auth=reject", "--encoding=UTF8", "--locale=C"]
    _run([str(programs / "initdb"), "-D", str(temporary), *options])
    alone = ["--single", "-D", str(temporary), "-c", "exit_on_error=on", "-c", "password_encryption=scram-sha-256", SUPERUSER]
    _run([str(programs / PROGRAM), *alone], _account(settings.secrets["database"]))
    temporary.rename(data)  # both programs have flushed it
    flush(data.parent)


def _account(password: str) -> str:
    """Return the statement that creates the services' user, in one line, as a server in single-user mode demands."""
    quoted = password.replace("'", "''")  # a backslash has no meaning in such a literal
    return f"CREATE ROLE {USER} LOGIN CREATEDB PASSWORD '{quoted}'\n"


def _run(command: list[str], statements: str = "") -> None:
    """Run a program of PostgreSQL.

    Raises:
        SystemExit: the program failed.
    """
    done = subprocess.run(command, input=statements, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{Path(command[0]).name} failed: {' '.join(done.stderr.split())}")


def _serves(programs: Path, sockets: Path) -> bool:
    if not (sockets / POSTGRESQL_SOCKET).exists():
        return False
    command = [str(programs / "pg_isready"), "--quiet", "--host", str(sockets), "--dbname", "postgres", "--username", USER]
    return subprocess.run(command, check=False).returncode == 0


SERVICE = Service(POSTGRESQL, __name__, configuration, listens=(), forked_from=ROOT)

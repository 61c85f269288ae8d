"""MariaDB of a site, which listens at a Unix socket alone."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from atoll.files import flush, make_directory, write_private
from atoll.runtime.child import Child
from atoll.runtime.program import become
from atoll.runtime.spec import ROOT
from atoll.services.contract import Service, Settings
from atoll.services.database_urls import MARIADB, MARIADB_SOCKET, USER, DatabaseOwner, own_directory
from atoll.services.neutron.ovn import layout

PROGRAM, PACKAGE = "mariadbd", "mariadb-server"
INSTALL = "mariadb-install-db"

CONNECTIONS = 300
"""Greatest number of connections; each of a site's eight SQLAlchemy engines may briefly have 55 (oslo.db's pool), and usually has five."""

FILE = "mariadb/my.cnf"

SBIN = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin"))
"""Directories in which programs are searched: Debian installs mariadbd in /usr/sbin, which an ordinary user's PATH lacks."""


def installed() -> bool:
    """Return whether the programs of MariaDB are installed on this machine."""
    return all(shutil.which(name, path=SBIN) for name in (PROGRAM, INSTALL))


def configuration(settings: Settings) -> dict[str, str]:
    """Render my.cnf, the options of MariaDB."""
    if settings.engine != MARIADB or settings.server:
        return {}
    data = settings.data / MARIADB
    socket = own_directory(MARIADB, settings.sockets) / MARIADB_SOCKET
    options = {
        "datadir": _quoted(data),
        "socket": _quoted(socket),
        "pid-file": _quoted(socket.with_name("mariadb.pid")),
        "tmpdir": _quoted(socket.parent),
        "user": "root" if os.geteuid() == 0 else "",  # else MariaDB refuses to run as root
        "max_connections": CONNECTIONS,
        "character-set-server": "utf8mb3",
        "collation-server": "utf8mb3_general_ci",
        "innodb_flush_log_at_trx_commit": 1 if settings.durable else 2,
        "innodb_buffer_pool_size": "64M",
        "performance_schema": "OFF",
        "log_warnings": 2 if settings.debug else 1,
    }
    lines = [f"{name} = {value}" for name, value in options.items() if value != ""]
    return {FILE: "\n".join(["[mariadbd]", "skip-networking", *lines, ""])}


def _quoted(path: Path) -> str:
    # Outside of quotes, " #" would begin a comment.
    escaped = str(path).replace("\\", r"\\")
    return f'"{escaped}"'


def run(child: Child) -> None:
    """Create the data directory if there is none, and become MariaDB."""
    settings = Settings.load(child.arguments["directory"])
    make_directory(own_directory(MARIADB, settings.sockets))
    program = shutil.which(PROGRAM, path=SBIN)
    if program is None:
        raise SystemExit(f"{PROGRAM} is not installed: install Debian's package {PACKAGE}")
    _create(settings)
    init = settings.data / "mariadb.sql"
    write_private(init, _accounts(settings))
    command = (program, f"--defaults-file={settings.etc / FILE}", f"--init-file={init}")
    become(child, command, lambda: layout.answers(own_directory(MARIADB, settings.sockets) / MARIADB_SOCKET))


def _create(settings: Settings) -> None:
    data = settings.data / MARIADB
    if data.exists():
        return
    temporary = data.with_suffix(".new")
    shutil.rmtree(temporary, ignore_errors=True)
    command = [shutil.which(INSTALL, path=SBIN) or INSTALL, "--no-defaults", f"--datadir={temporary}", "--skip-test-db"]
    done = subprocess.run(
        [*command, *(("--user=root",) if os.geteuid() == 0 else ())], check=False, capture_output=True, text=True, env={"PATH": SBIN}
    )
    if done.returncode:
        raise SystemExit(f"{INSTALL} failed: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
    _publish(temporary, data)


def _publish(temporary: Path, data: Path) -> None:
    temporary.chmod(0o700)
    os.sync()
    temporary.rename(data)
    flush(data.parent)


def _accounts(settings: Settings) -> str:
    """Return the statements that MariaDB executes at each start, one a line, as `--init-file` demands.

    The services' user may create databases of the site, and can't read or write files, or change other accounts.
    """
    password = settings.secrets["database"]
    databases = DatabaseOwner(settings.cloud, settings.site).database_name("", MARIADB).replace("_", r"\_")
    account = f"'{USER}'@'localhost'"
    return (
        f"CREATE USER IF NOT EXISTS {account} IDENTIFIED BY '{password}';\n"
        f"ALTER USER {account} IDENTIFIED BY '{password}';\n"
        f"GRANT ALL PRIVILEGES ON `{databases}%`.* TO {account};\n"
    )


SERVICE = Service(MARIADB, __name__, configuration, listens=(), forked_from=ROOT)

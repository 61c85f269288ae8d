"""The usual deployment: its set-up, its start, and its measurement by the same experiment as for sites."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from atoll.bench.progress import Say
from atoll.bench.site import SiteOptions, at_rest, under_load
from atoll.bench.standard import accounts, configuration
from atoll.bench.standard.daemons import Daemons, Program
from atoll.bench.standard.servers import MariaDB, RabbitMQ
from atoll.bench.target import Target, await_answers
from atoll.bench.waiting import wait_until
from atoll.bench.workspace import HOST, Workspace, free_ports
from atoll.cloud.model import PORT_OFFSETS
from atoll.services import Settings

NAME = "standard"
START_TIMEOUT_S = 900.0
_SERVER_TIMEOUT_S = 120.0
_SECRETS = ("admin", "nova", "neutron", "glance", "placement", "metadata", "database", "bus")


class Deployment:
    """A deployment of the usual kind.

    Args:
        root: the deployment's own directory.
        environment: the environment of its programs.
    """

    def __init__(self, root: Path, environment: Mapping[str, str]) -> None:
        first, second = free_ports(2)
        for name in ("log", "data", "mariadb", "rabbitmq"):
            (root / name).mkdir(mode=0o700)
        for name in ("locks", "images", "staging", "tasks", "instances"):
            (root / "data" / name).mkdir(mode=0o700)
        ports = {name: first + offset for name, offset in PORT_OFFSETS.items()}
        passwords = {name: secrets.token_hex(16) for name in _SECRETS}
        self.settings = Settings(NAME, root, root / "templates", HOST, ports, passwords)
        self._database = MariaDB(root / "mariadb", second, passwords["database"])
        self._bus = RabbitMQ(root / "rabbitmq", (second + 1, second + 2, second + 3), passwords["bus"])
        paste = Path(sys.prefix) / "etc/nova/api-paste.ini"
        services = {"HOME": str(root), **configuration.environment(self.settings, paste)}
        self._servers = Daemons(root / "log", environment)
        self._daemons = Daemons(root / "log", {**environment, **services})

    @property
    def target(self) -> Target:
        """The deployment as a target of measurements."""
        url = self.settings.url("identity", "/v3")
        return Target(url, self.settings.secrets["admin"], NAME, lambda: [*self._servers.pids(), *self._daemons.pids()])

    def prepare(self, say: Say) -> None:
        """Create databases, schemas, keys, accounts and cells, then stop all programs again.

        Raises:
            AtollError: `bench.failed`: the experiment could not be done.
        """
        say("the usual deployment: MariaDB and RabbitMQ")
        configuration.write(self.settings, self._database.url, self._bus.url)
        self._bus.configure()
        self._servers.run(self._database.initialise())
        self._start_servers()
        self._servers.run(self._database.create(configuration.DATABASES))
        say("the usual deployment: schemas")
        self._daemons.run_all(self._keystone(), [*self._glance(), *self._placement(), *self._neutron()], self._nova())
        say("the usual deployment: accounts and catalogue")
        self._daemons.start([self._gunicorn("keystone")])
        api = self.target.api()
        wait_until(self._answers, "Keystone answers", _SERVER_TIMEOUT_S)
        api.sign_in()
        accounts.create(api, self.settings)
        self._daemons.stop()
        self._servers.stop()

    def start(self) -> float:
        """Start all programs of the deployment.

        Returns:
            Seconds until the first correct answer of all five APIs.

        Raises:
            AtollError: `bench.failed`: the experiment could not be done.
        """
        begun = time.monotonic()
        self._start_servers()
        self._daemons.start([*(self._gunicorn(name) for name in configuration.GUNICORN), *self._others()])
        await_answers(self.target, self._check, START_TIMEOUT_S)
        return time.monotonic() - begun

    def map_hosts(self) -> None:
        """Map the compute host in Nova's API database, as an operator does for a new host."""
        self._daemons.run(self._manage("nova", "cell_v2", "discover_hosts", "--verbose"))

    def _start_servers(self) -> None:
        self._servers.start([self._database.daemon(), *self._bus.daemons()])
        wait_until(self._servers_answer, "MariaDB and RabbitMQ answer", _SERVER_TIMEOUT_S)

    def _servers_answer(self) -> bool:
        self._check()
        return self._database.is_up() and self._bus.is_up()

    def _check(self) -> None:
        self._servers.check()
        self._daemons.check()

    def _answers(self) -> bool:
        self._check()
        try:
            self.target.api().sign_in()
        except OSError:
            return False
        return True

    def _file(self, service: str) -> str:
        name = "glance-api.conf" if service == "glance" else f"{service}.conf"
        return str(self.settings.etc / service / name)

    def _manage(self, service: str, *words: str, program: str = "") -> Program:
        command = (_program(program or f"{service}-manage"), "--config-file", self._file(service), *words)
        return Program("-".join([service, words[0], *(word for word in words[1:2] if word.isidentifier())]), command)

    def _keystone(self) -> list[Program]:
        (self.settings.data / "keys").mkdir(mode=0o700)
        url = self.settings.url("identity", "/v3")
        urls = ("--bootstrap-public-url", url, "--bootstrap-internal-url", url, "--bootstrap-admin-url", url)
        bootstrap = self._manage("keystone", "bootstrap", *urls, "--bootstrap-region-id", self.settings.region)
        # If this process is root, `keystone-manage` demands the owner of the keys.
        owner = ("--keystone-user", "root", "--keystone-group", "root") if os.geteuid() == 0 else ()
        return [
            *(self._manage("keystone", name, *owner) for name in ("fernet_setup", "receipt_setup", "credential_setup")),
            self._manage("keystone", "db_sync"),
            # Pass the password in an environment variable, because other users can read command lines.
            replace(bootstrap, environment={"OS_BOOTSTRAP_PASSWORD": self.settings.secrets["admin"]}),
        ]

    def _glance(self) -> list[Program]:
        return [self._manage("glance", "db_sync")]

    def _placement(self) -> list[Program]:
        return [self._manage("placement", "db", "sync")]

    def _neutron(self) -> list[Program]:
        return [self._manage("neutron", "upgrade", "heads", program="neutron-db-manage")]

    def _nova(self) -> list[Program]:
        return [
            self._manage("nova", "api_db", "sync"),
            self._manage("nova", "cell_v2", "map_cell0"),
            self._manage("nova", "db", "sync"),
            self._manage("nova", "cell_v2", "create_cell", "--name", "cell1"),
        ]

    def _gunicorn(self, name: str) -> Program:
        directory = self.settings.directory / "gunicorn" / name
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (directory / "gunicorn.conf.py").write_text(configuration.gunicorn(name, self.settings), encoding="utf-8")
        return Program(f"{name}-api", (_program("gunicorn"),), directory=directory)

    def _others(self) -> list[Program]:
        return [
            Program(name, (_program(name), "--config-file", self._file(name.partition("-")[0])))
            for name in ("neutron-rpc-server", "neutron-periodic-workers", "nova-conductor", "nova-scheduler", "nova-compute")
        ]


def _program(name: str) -> str:
    """Return the path of a program of the virtual environment."""
    return str(Path(sys.executable).with_name(name))


def run(options: SiteOptions, work: Workspace) -> dict[str, Any]:
    """Set up the usual deployment and measure it; no cloud may run on the machine meanwhile.

    Args:
        options: the size of the experiment; its number of sites is ignored.
        work: the experiment's workspace.

    Returns:
        The numbers, by the names of `report.KEYS`.

    Raises:
        AtollError: `bench.failed`: the experiment could not be done.
    """
    options = replace(options, sites=1)
    deployment = Deployment(work.root, work.environment)
    deployment.prepare(work.say)
    work.say("the usual deployment: starting it")
    numbers: dict[str, Any] = {"first_site_s": round(deployment.start(), 3), "next_site_s": None}
    deployment.map_hosts()
    numbers |= under_load(deployment.target, options, work.say)
    return numbers | at_rest(deployment.target, options, work.say)

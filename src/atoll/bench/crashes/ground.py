"""The site on which processes are killed: brought up, waited for, looked at, cleaned."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

from atoll.bench import workload
from atoll.bench.command import atoll
from atoll.bench.crashes.client import GONE, Insistent
from atoll.bench.crashes.hooks import ENVIRONMENT
from atoll.bench.crashes.point import Board
from atoll.bench.crashes.remnants import remnants
from atoll.bench.faults.checker import check
from atoll.bench.faults.client import Client, Insider
from atoll.bench.faults.log import Attempt
from atoll.bench.faults.observe import look
from atoll.bench.faults.view import View
from atoll.bench.faults.violation import Violation
from atoll.bench.measure import failed, wait_until
from atoll.bench.workspace import HOST, free_ports
from atoll.cloud import Cloud, dump_cloud
from atoll.errors import AtollError
from atoll.runtime.control import Control, ProcessStatus, State, connect
from atoll.services.keystone_bootstrap import CATALOGUE
from atoll.site.sites import site_settings
from atoll.site.state import State as Directory

SITE = "paris"
READY_S = 120.0
"""Seconds that processes may take to be ready again."""

PEACE_S = 30.0
"""Seconds in which all is as it should be, once they are."""

STRIKES = 4
"""Deaths of a process after which it is restarted in good order: each death in a row makes the supervisor wait twice as long."""

_NO_ANSWER = (OSError, HTTPException, AtollError)


class Ground:
    """One site with a fake hypervisor, without a topology.

    Args:
        state: its state directory.
        tenancy: of what servers are made there.
    """

    def __init__(self, state: Directory) -> None:
        settings = site_settings(state, SITE)
        self._state = state
        self._settings = settings
        endpoints = {kind: settings.url(kind, path) for kind, (_name, path) in CATALOGUE.items()}
        self._insider = Insider(endpoints, settings.secrets["admin"])
        self._api = Client(settings.public_url("identity", "/v3"), settings.secrets["admin"])
        self._deaths: dict[str, int] = {}
        self.board = Board(settings.directory)
        self.board.open()
        self.sign_in()
        made = workload.prepare(self._api)
        self._tenancy = {"image": made.image, "flavor": made.flavor, "network": made.network}
        self.before = self.view()

    def sign_in(self) -> None:
        """Get new tokens."""
        self._insider.sign_in()
        self._api.sign_in()

    def client(self) -> Insistent:
        """A client with an empty log."""
        return Insistent(self._api, SITE, self._tenancy)

    # Processes

    def processes(self) -> dict[str, ProcessStatus]:
        """Those of the site, by the name of the service."""
        found = {status.name.partition("/")[2]: status for status in self._control().status() if status.name.startswith(f"{SITE}/")}
        return dict(found)

    def await_ready(self, restarts: Mapping[str, int], died: Sequence[str]) -> None:
        """Wait until those that died have been started again, and all are ready.

        Args:
            restarts: of each process, before they died.
            died: the names of those that did.

        Raises:
            AtollError: `bench.failed`: one does not come back.
        """

        def back() -> bool:
            now = self.processes()
            return all(now[name].restarts > restarts[name] for name in died) and all(each.state is State.READY for each in now.values())

        wait_until(back, f"{', '.join(died) or 'the site'} ready again", READY_S, 0.05)

    def relieve(self, process: str) -> None:
        """Have the supervisor forget the deaths of a process, now and then."""
        self._deaths[process] = self._deaths.get(process, 0) + 1
        if self._deaths[process] % STRIKES == 0:
            self._control().restart(f"{SITE}/{process}")

    def _control(self) -> Control:
        control = connect(self._state.root)
        if control is None:
            raise failed("the supervisor is gone")
        return control

    # What the site holds

    def view(self) -> View:
        """What it holds now."""
        try:
            return View(**look(SITE, self._insider, self._api, {}))
        except _NO_ANSWER as error:
            return View(SITE, f"{type(error).__name__}: {error}")

    def wrong(self, attempts: Sequence[Attempt]) -> list[Violation]:
        """What is not as it should be."""
        view = self.view()
        return check(attempts, [self.before], [view]) + ([] if view.error else list(remnants(self._settings.data, view)))

    def settled(self, attempts: Sequence[Attempt], patience_s: float = PEACE_S) -> list[Violation]:
        """What is not as it should be, after all the time that it may take."""
        deadline = time.monotonic() + patience_s
        while (found := self.wrong(attempts)) and time.monotonic() < deadline:
            time.sleep(0.5)
        return found

    def clean(self) -> list[Violation]:
        """Delete whatever was not there at first, as a client would; what stays is a violation."""
        view = self.view()
        for service, path, kept, there in (
            ("compute", "/servers/", self.before.servers, view.servers),
            ("image", "/v2/images/", self.before.images, view.images),
            ("identity", "/users/", self.before.users, view.users),
            ("identity", "/projects/", self.before.projects, view.projects),
        ):
            for id_ in there.keys() - kept.keys():
                self._remove(service, path + id_)
        return self.settled([])

    def _remove(self, service: str, path: str) -> None:
        deadline = time.monotonic() + PEACE_S
        while time.monotonic() < deadline:
            try:
                if self._api.call(service, "DELETE", path).status in GONE:
                    return
            except (OSError, HTTPException):
                pass
            time.sleep(0.2)


@contextmanager
def ground(root: Path, environment: Mapping[str, str]) -> Iterator[Ground]:
    """Bring the site up, and destroy it in the end.

    Args:
        root: a directory of the experiment's own.
        environment: of the commands.
    """
    state, file, log = Directory(root / "s"), root / "cloud.yaml", root / "commands.log"
    site = {"name": SITE, "host": HOST, "port": free_ports(1)[0], "compute": "fake"}
    file.write_text(dump_cloud(Cloud.model_validate({"name": "crashes", "sites": [site]})), encoding="utf-8")
    environment = {**environment, **ENVIRONMENT}
    atoll(state, log, environment, "up", str(file))
    try:
        yield Ground(state)
    finally:
        atoll(state, log, environment, "destroy", "--yes")

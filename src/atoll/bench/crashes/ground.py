"""The sites on which processes are killed: brought up, waited for, looked at, cleaned."""

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
from atoll.bench.faults.observe import look
from atoll.bench.faults.view import View
from atoll.bench.faults.violation import Violation
from atoll.bench.measure import failed, wait_until
from atoll.bench.workspace import HOST, free_ports
from atoll.cloud import Cloud, dump_cloud
from atoll.errors import AtollError
from atoll.runtime.control import Control, ProcessStatus, State, connect
from atoll.services import Settings
from atoll.services.keystone_bootstrap import CATALOGUE
from atoll.site.gateway_client import ask
from atoll.site.sites import site_settings
from atoll.site.state import State as Directory

SITES = ("paris", "lyon")
"""The client is at the first."""

READY_S = 120.0
"""Seconds that processes may take to be ready again."""

PEACE_S = 90.0
"""Seconds in which all is as it should be, once they are: Nova looks after allocations of deleted servers once a minute."""

REMOVE_S = 30.0
"""Seconds for which something is deleted again and again until it is gone."""

STRIKES = 4
"""Deaths of a process after which it is restarted in good order: each death in a row makes the supervisor wait twice as long."""

_CLEANED = (
    (
        ("compute", "/servers/", "servers"),
        ("image", "/v2/images/", "images"),
        ("identity", "/users/", "users"),
        ("identity", "/projects/", "projects"),
    ),
    (("network", "/v2.0/ports/", "ports"),),
    (("network", "/v2.0/networks/", "networks"),),
)
"""The kinds that are deleted after a trial, one after the other: service, path, and the field of a view that has it."""

_NO_ANSWER = (OSError, HTTPException, AtollError)


class Ground:
    """Sites with a fake hypervisor, without a topology.

    Args:
        state: their state directory.
        sites: their names; the client is at the first.

    Attributes:
        board: of them all.
        before: what each holds at first.
    """

    def __init__(self, state: Directory, sites: tuple[str, ...]) -> None:
        self._state = state
        self.sites = sites
        self._settings = {site: site_settings(state, site) for site in sites}
        self._insiders = {site: _insider(settings) for site, settings in self._settings.items()}
        self._apis = {site: Client(each.public_url("identity", "/v3"), each.secrets["admin"]) for site, each in self._settings.items()}
        self._deaths: dict[str, int] = {}
        self._left: set[str] = set()
        self.board = Board(state.site(sites[0]))
        self.board.open()
        for site in sites[1:]:
            Board(state.site(site)).open(self.board)
        self.sign_in()
        wait_until(lambda: not self.missing(), "the sites see each other", READY_S)
        made = workload.prepare(self._apis[sites[0]])
        self._tenancy = {"image": made.image, "flavor": made.flavor, "network": made.network}
        self.before = self.views()

    def sign_in(self) -> None:
        """Get new tokens."""
        for api in (*self._insiders.values(), *self._apis.values()):
            api.sign_in()

    def client(self) -> Insistent:
        """A client with an empty log."""
        return Insistent(self._apis[self.sites[0]], self.sites[0], self._tenancy, self.sites)

    def missing(self) -> list[str]:
        """The sites that are not in the list of another's gateway."""
        return [site for view in self.views() for site in (*view.missing, *([view.site] if view.error else []))]

    # Processes

    def processes(self) -> dict[str, ProcessStatus]:
        """Those of the sites."""
        return {status.name: status for status in self._control().status() if status.name.partition("/")[0] in self.sites}

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
            return all(now[name].restarts >= restarts[name] + died.count(name) for name in died) and all(
                each.state is State.READY for each in now.values()
            )

        wait_until(back, f"{', '.join(died) or 'the site'} ready again", READY_S, 0.05)

    def relieve(self, process: str) -> None:
        """Have the supervisor forget the deaths of a process, now and then."""
        self._deaths[process] = self._deaths.get(process, 0) + 1
        if self._deaths[process] % STRIKES == 0:
            self._control().restart(process)

    def _control(self) -> Control:
        control = connect(self._state.root)
        if control is None:
            raise failed("the supervisor is gone")
        return control

    # What the sites hold

    def views(self) -> list[View]:
        """Return the contents of each of them now."""
        return [self._view(site) for site in self.sites]

    def _view(self, site: str) -> View:
        try:
            return View(**look(site, self._insiders[site], self._apis[site], {}))
        except _NO_ANSWER as error:
            return View(site, f"{type(error).__name__}: {error}")

    def wrong(self, client: Insistent) -> list[Violation]:
        """Return the violations that there are now."""
        views = self.views()
        # What a client made at one site may be brought to others.
        made = View(
            self.sites[0], networks={id_: {} for id_ in client.networks}, images={each.id: {} for each in client.attempts if each.id}
        )
        found = check(client.attempts, [*self.before, *([made] if len(views) > 1 else [])], views)
        for view in views:
            found += [] if view.error else list(remnants(self._settings[view.site].data, view))
        for view in views[1:] if client.undone else ():
            found += [
                Violation("orphan", f"network {id_} at {view.site} was brought in vain") for id_ in client.networks if id_ in view.networks
            ]
        return [each for each in (*found, *self._pending()) if each.what not in self._left]

    def _pending(self) -> Iterator[Violation]:
        for site in self.sites:
            try:
                pending = ask(self._state, site, "GET", "/pending", timeout_s=READY_S)["pending"]
            except AtollError as error:
                yield Violation("unhealthy", error.message)
                continue
            if pending:
                yield Violation("unhealthy", f"{len(pending)} operations are pending at {site}: {pending[:3]}")

    def settled(self, client: Insistent, patience_s: float = PEACE_S) -> list[Violation]:
        """Return the violations that are left after all the time that a repair may take."""
        deadline = time.monotonic() + patience_s
        while (found := self.wrong(client)) and time.monotonic() < deadline:
            time.sleep(0.5)
        return found

    def clean(self) -> list[Violation]:
        """Delete whatever was not there at first, as a client would; what stays is a violation."""
        for kinds in _CLEANED:
            for view in self.views():
                for service, path, field in kinds:
                    for id_ in self._new(view, field):
                        self._remove(view.site, service, path + id_)
        found = self.settled(self.client())
        self._left |= {each.what for each in found}  # told once, and not of every later trial
        return found

    def _new(self, view: View, field: str) -> list[str]:
        known = {id_ for each in self.before for id_ in getattr(each, field)}
        rows = getattr(view, field)
        # A port of a network's own goes with it.
        return [id_ for id_ in rows if id_ not in known and not str(rows[id_].get("device_owner", "")).startswith("network:")]

    def _remove(self, site: str, service: str, path: str) -> None:
        deadline = time.monotonic() + REMOVE_S
        while time.monotonic() < deadline:
            try:
                if self._apis[site].call(service, "DELETE", path).status in GONE:
                    return
            except (OSError, HTTPException):
                pass
            time.sleep(0.2)


def _insider(settings: Settings) -> Insider:
    endpoints = {kind: settings.url(kind, path) for kind, (_name, path) in CATALOGUE.items()}
    return Insider(endpoints, settings.secrets["admin"])


@contextmanager
def ground(root: Path, sites: tuple[str, ...], environment: Mapping[str, str]) -> Iterator[Ground]:
    """Bring sites up, and destroy them in the end.

    Args:
        root: a directory of the experiment's own.
        sites: their names.
        environment: of the commands.
    """
    state, file, log = Directory(root / "s"), root / "cloud.yaml", root / "commands.log"
    named = zip(sites, free_ports(len(sites)), strict=True)
    cloud = {"name": "crashes", "sites": [{"name": name, "host": HOST, "port": port, "compute": "fake"} for name, port in named]}
    file.write_text(dump_cloud(Cloud.model_validate(cloud)), encoding="utf-8")
    environment = {**environment, **ENVIRONMENT}
    atoll(state, log, environment, "up", str(file))
    try:
        yield Ground(state, sites)
    finally:
        atoll(state, log, environment, "destroy", "--yes")

"""The sites at which trials kill processes. This module starts them, reads their contents, cleans them after a trial, and destroys them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

from atoll.bench import workload
from atoll.bench.crashes.client import GONE, RetryingClient
from atoll.bench.crashes.hooks import ENVIRONMENT
from atoll.bench.crashes.point import Board
from atoll.bench.crashes.remnants import remnants
from atoll.bench.failure import failed
from atoll.bench.faults.checker import check
from atoll.bench.faults.client import Client, Insider
from atoll.bench.faults.observe import look
from atoll.bench.faults.view import View
from atoll.bench.faults.violation import Violation
from atoll.bench.own_cloud import own_cloud
from atoll.bench.waiting import wait_until
from atoll.bench.workspace import HOST, free_ports
from atoll.errors import AtollError
from atoll.runtime.client import ProcessState, ProcessStatus, SupervisorClient, connect
from atoll.services import Settings
from atoll.services.keystone.bootstrap import CATALOGUE
from atoll.site.gateway_client import ask
from atoll.site.sites import site_settings
from atoll.site.state import State as Directory

SITES = ("paris", "lyon")
"""The names of the sites; the client is at the first."""

READY_S = 120.0
"""Seconds to wait until processes are ready again."""

SETTLED_S = 90.0
"""Seconds within which all violations must disappear once all processes are ready: Nova cleans up allocations once a minute."""

REMOVE_S = 30.0
"""Seconds during which a deletion is repeated until the resource is gone."""

STRIKES = 4
"""Number of deaths after which a process is restarted gracefully, because the supervisor's delay doubles with each death in a row."""

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
"""The types of resources that are deleted after a trial, in order: the service, the path of the list, and the field of a `View`."""

_NO_ANSWER = (OSError, HTTPException, AtollError)


class TrialSites:
    """Running sites with a fake hypervisor and without a topology.

    Args:
        state: the state directory.
        sites: the names of the sites; the client is at the first.

    Attributes:
        sites: the names of the sites.
        settings: the settings of the first site.
        board: the crash points of all sites.
        before: the contents of each site before the first trial.
    """

    def __init__(self, state: Directory, sites: tuple[str, ...]) -> None:
        self.state = state
        self.sites = sites
        self.settings = site_settings(state, sites[0])
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
        """Get new tokens for all clients."""
        for api in (*self._insiders.values(), *self._apis.values()):
            api.sign_in()

    def client(self) -> RetryingClient:
        """Return a client with an empty log."""
        return RetryingClient(self._apis[self.sites[0]], self.sites[0], self._tenancy, self.sites)

    def missing(self) -> list[str]:
        """Return the sites that are missing from the lists of another site's gateway."""
        return [site for view in self.views() for site in (*view.missing, *([view.site] if view.error else []))]

    # Processes

    def processes(self) -> dict[str, ProcessStatus]:
        """Return the processes of the sites by name."""
        return {status.name: status for status in self._control().status() if status.name.partition("/")[0] in self.sites}

    def await_ready(self, restarts: Mapping[str, int], died: Sequence[str]) -> None:
        """Wait until the processes that died have been started again and all processes are ready.

        Args:
            restarts: the number of restarts of each process before the deaths.
            died: the names of the processes that died.

        Raises:
            AtollError: `bench.failed`: a process did not come back.
        """

        def back() -> bool:
            now = self.processes()
            return all(now[name].restarts >= restarts[name] + died.count(name) for name in died) and all(
                each.state is ProcessState.READY for each in now.values()
            )

        wait_until(back, f"{', '.join(died) or 'the site'} ready again", READY_S, 0.05)

    def relieve(self, process: str) -> None:
        """Count a death; after `STRIKES` deaths, restart the process gracefully, to reset the supervisor's delay."""
        self._deaths[process] = self._deaths.get(process, 0) + 1
        if self._deaths[process] % STRIKES == 0:
            self._control().restart(process)

    def _control(self) -> SupervisorClient:
        control = connect(self.state.root)
        if control is None:
            raise failed("the supervisor has ended")
        return control

    # Contents of the sites

    def views(self) -> list[View]:
        """Return the current contents of each site."""
        return [self._view(site) for site in self.sites]

    def _view(self, site: str) -> View:
        try:
            return View(**look(site, self._insiders[site], self._apis[site], {}))
        except _NO_ANSWER as error:
            return View(site, f"{type(error).__name__}: {error}")

    def wrong(self, client: RetryingClient) -> list[Violation]:
        """Compare the contents of the sites with the requests of a client, and return the violations."""
        views = self.views()
        # Sites may hold copies of networks and images that the client created at its own site.
        made = View(
            self.sites[0], networks={id_: {} for id_ in client.networks}, images={each.id: {} for each in client.attempts if each.id}
        )
        found = check(client.attempts, [*self.before, *([made] if len(views) > 1 else [])], views)
        for view in views:
            found += [] if view.error else list(remnants(self._settings[view.site].data, view))
        for view in views[1:] if client.expects_no_copies else ():
            found += [
                Violation("orphan", f"network {id_} at {view.site} is an unused copy") for id_ in client.networks if id_ in view.networks
            ]
        return [each for each in (*found, *self._pending()) if each.what not in self._left]

    def _pending(self) -> Iterator[Violation]:
        for site in self.sites:
            try:
                pending = ask(self.state, site, "pending", timeout_s=READY_S)["pending"]
            except AtollError as error:
                yield Violation("unhealthy", error.message)
                continue
            if pending:
                yield Violation("unhealthy", f"{len(pending)} operations are pending at {site}: {pending[:3]}")

    def settled(self, client: RetryingClient, patience_s: float = SETTLED_S) -> list[Violation]:
        """Wait at most `patience_s` seconds until no violations are left, and return the violations that are left."""
        deadline = time.monotonic() + patience_s
        while (found := self.wrong(client)) and time.monotonic() < deadline:
            time.sleep(0.5)
        return found

    def clean(self) -> list[Violation]:
        """Delete all resources that did not exist before the first trial, as a client would.

        Return the resources that could not be deleted, as violations.
        """
        for kinds in _CLEANED:
            for view in self.views():
                for service, path, field in kinds:
                    for id_ in self._new(view, field):
                        self._remove(view.site, service, path + id_)
        found = self.settled(self.client())
        self._left |= {each.what for each in found}  # reported once, not in every later trial
        return found

    def _new(self, view: View, field: str) -> list[str]:
        known = {id_ for each in self.before for id_ in getattr(each, field)}
        rows = getattr(view, field)
        # Ports of a network itself, such as those of DHCP, are deleted with the network.
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


def view_of(settings: Settings) -> View:
    """Return the contents of a site, read with new tokens.

    Args:
        settings: the settings of the site's services.
    """
    insider, client = _insider(settings), Client(settings.public_url("identity", "/v3"), settings.secrets["admin"])
    try:
        insider.sign_in()
        client.sign_in()
        return View(**look(settings.site, insider, client, {}))
    except _NO_ANSWER as error:
        return View(settings.site, f"{type(error).__name__}: {error}")


def _insider(settings: Settings) -> Insider:
    endpoints = {kind: settings.url(kind, path) for kind, (_name, path) in CATALOGUE.items()}
    return Insider(endpoints, settings.secrets["admin"])


@contextmanager
def trial_sites(root: Path, sites: tuple[str, ...], environment: Mapping[str, str]) -> Iterator[TrialSites]:
    """Start sites for trials, yield them, and destroy them when the context ends.

    Args:
        root: the experiment's own directory.
        sites: the names of the sites.
        environment: the environment of the commands.
    """
    named = zip(sites, free_ports(len(sites)), strict=True)
    document = {"name": "crashes", "sites": [{"name": name, "host": HOST, "port": port, "compute": "fake"} for name, port in named]}
    with own_cloud(root, document, {**environment, **ENVIRONMENT}) as own:
        yield TrialSites(own.state, sites)

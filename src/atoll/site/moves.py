"""The move of a site's databases to another place, and the removal of the data that moves leave behind.

The site must be stopped. Its record of the place is the cloud's YAML in the state directory, which is replaced in one step, after all rows
have been copied and compared. Until then the site's data are where they were, and unchanged; afterwards the old data stay until `clean`.
The same command continues a move that was interrupted. `places` keeps the marks that distinguish a remainder from the data in use.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from atoll.cloud import Cloud, Site, dump_cloud
from atoll.cloud.changes import with_database
from atoll.cloud.databases import Database
from atoll.errors import AtollError
from atoll.files import write_private
from atoll.runtime.client import Event, ProcessState, SupervisorClient, connect, ensure_supervisor
from atoll.services import DATABASE_SERVERS, Settings, code_key, database_servers, places, template_key
from atoll.services.database_urls import SQLITE
from atoll.services.transfer import database, schema
from atoll.services.transfer.database import Copied
from atoll.services.transfer.errors import TransferError
from atoll.site import cache, databases
from atoll.site.composition import load_settings
from atoll.site.databases import database_of
from atoll.site.move_plan import plan_of, write_configuration
from atoll.site.processes import ENDED, Observer, start_plan
from atoll.site.sites import applied_cloud, check_known
from atoll.site.state import State, check_space, locked, translated


@dataclass(frozen=True)
class Moved:
    """The result of a move.

    Attributes:
        site: the name of the site.
        before: the place where the databases were, as text.
        now: the place where they are, as text.
        moved: False if the databases were at that place already.
        databases: the tables and rows that were copied, by database.
        field: the value of the field `database` for the user's YAML.
    """

    site: str
    before: str
    now: str
    moved: bool
    databases: dict[str, Copied]
    field: dict[str, str] | str


@dataclass(frozen=True)
class _Route:
    """The settings of a site with its present place, and with the place to which its databases move."""

    source: Settings
    target: Settings

    @property
    def names(self) -> list[str]:
        """The databases that the site has, each after those of services that it needs."""
        return [name for names in schema.DATABASES.values() for name in names if places.has(self.source, name)]

    @property
    def is_same_place(self) -> bool:
        """True if both are the same place."""
        return self.source.place == self.target.place

    def result(self, wanted: Database, copied: dict[str, Copied] | None = None) -> Moved:
        """Return the result of the move. If the databases were at the target already, `copied` is `None`."""
        before, now = places.described(self.source), places.described(self.target)
        field = wanted.model_dump(exclude_defaults=True) or SQLITE
        return Moved(self.source.site, before, now, moved=copied is not None, databases=copied or {}, field=field)


def move(state: State, cache_directory: Path, name: str, wanted: Database, observe: Observer = lambda _event: None) -> Moved:
    """Move the databases of a stopped site to another place, and record the place.

    Args:
        state: the state directory.
        cache_directory: the user's cache directory, for templates.
        name: the name of the site.
        wanted: the place.
        observe: called with the events of processes, and of databases that are copied.

    Raises:
        AtollError: `site.unknown`, `site.running`, `cloud.invalid`, `state.*`, `database.unavailable`, `database.occupied`, with nothing
            changed; `database.failed`: the site still uses the old place.
    """
    with _locked_route(state, name, wanted) as (changed, route):
        if route.is_same_place:
            return route.result(wanted)
        _check(state, cache_directory, route)
        _check_free(route.target, route.names)
        copied = _carry_out(state, cache_directory, route, observe) if route.names else {}
        _switch(state, changed, route.target)
        return route.result(wanted, copied)


def readdress(state: State, cache_directory: Path, name: str, wanted: Database) -> Moved:
    """Record another address of the server that a stopped site uses; nothing is copied.

    Args:
        state: the state directory.
        cache_directory: the user's cache directory.
        name: the name of the site.
        wanted: the server, at its new address.

    Raises:
        AtollError: as for `move`, with nothing changed; in addition, `database.unavailable` if the server at the new address lacks a
            database of the site.
    """
    with _locked_route(state, name, wanted) as (changed, route):
        if route.is_same_place:
            return route.result(wanted)
        _check(state, cache_directory, route)
        _check_same(route)
        places.readdress(route.source, route.target)
        _switch(state, changed, route.target)
        shutil.rmtree(places.marks(route.source))
        return route.result(wanted, {})


@contextmanager
def _locked_route(state: State, name: str, wanted: Database) -> Iterator[tuple[Cloud, _Route]]:
    """Lock the state directory, and yield the changed cloud with the settings of the site before and after the move."""
    state.check()
    check_known(state, [name])
    with locked(state, "database move"), translated(state.root):
        cloud, site = _full_site(state, name)
        changed = with_database(cloud, name, wanted)
        [there] = [each for each in changed.sites if each.name == name]
        databases.check_installed([there])
        source = replace(load_settings(state.site(name)), **database_of(site))
        yield changed, _Route(source, replace(source, **database_of(there)))


def _full_site(state: State, name: str) -> tuple[Cloud, Site]:
    cloud = applied_cloud(state)
    site = next((each for each in cloud.sites if each.name == name), None) if cloud else None
    if cloud is None or site is None:
        raise AtollError("site.unknown", f"{name} has never been up: expected a site that has", "`atoll up`")
    if group := cloud.sharing(name):
        others = ", ".join(each.name for each in group if each.name != name)
        raise AtollError("cloud.invalid", f"{name} shares its databases with {others}: expected a site with databases of its own")
    if site.control:
        raise AtollError("cloud.invalid", f"{name} is a compute site of {site.control}, which has the databases: expected a full site")
    return cloud, site


def _check(state: State, cache_directory: Path, route: _Route) -> None:
    """Check all that could prevent a move, before anything is written."""
    source, target = route.source, route.target
    control = connect(state.root)
    statuses = control.status() if control else []
    ours = {status.name for status in statuses if status.name.startswith(f"{source.site}/") and status.state not in ENDED}
    if ours - {f"{source.site}/{engine}" for engine in DATABASE_SERVERS} - {each for each in ours if "/schema-" in each}:
        message = f"{source.site} is running: expected a stopped site, whose data do not change"
        raise AtollError("site.running", message, f"`atoll site stop {source.site}` first")
    if control and (not state.code_file.exists() or state.code_file.read_text(encoding="utf-8") != code_key()):
        raise AtollError("state.version", "the running processes have loaded other code than is installed now", "`atoll down` first")
    check_space(state.root, cache_directory)
    databases.check_servers([target])


def _check_free(target: Settings, names: Sequence[str]) -> None:
    """Refuse a place that has data which are not the beginning of a move to it."""
    site, moving = target.site, places.is_moving(target)
    if places.has_data(target) and not moving:
        message = f"{places.described(target)} still has the data of {site} from before an earlier move, or of something else"
        raise AtollError("database.occupied", message, f"`atoll database clean {site}` removes the data of earlier moves for good")
    if not target.server:
        return
    try:
        for name in names:
            if name not in places.made(target):
                database_servers.clear(target, name, own=False)
    except database_servers.ServerError as error:
        hint = "if this is the server that the site uses, at another address, add --same-data: then remove nothing there"
        raise AtollError("database.occupied", str(error), hint) from None


def _check_same(route: _Route) -> None:
    """Check that the target can be the server of the source, at another address.

    Raises:
        AtollError: `cloud.invalid`: they can't be the same; `database.unavailable`: the target lacks a database.
    """
    source, target = route.source, route.target
    if source.engine != target.engine or not (source.server and target.server):
        message = f"{places.described(target)} can't have the data of {places.described(source)} already: expected another address of it"
        raise AtollError("cloud.invalid", message, "leave out --same-data to copy the data")
    try:
        missing = [name for name in route.names if not database_servers.has(target, name)]
    except database_servers.ServerError as error:
        raise AtollError("database.unavailable", str(error)) from None
    if missing:
        message = f"{places.described(target)} has no {' and no '.join(missing)} of {source.site}"
        raise AtollError("database.unavailable", message, "leave out --same-data to copy the data")


def _carry_out(state: State, cache_directory: Path, route: _Route, observe: Observer) -> dict[str, Copied]:
    """Copy the databases, while the servers that the copy needs run."""
    source, target, names = route.source, route.target, route.names
    databases.check_servers([source])
    places.end_move(source)
    places.record(source)
    places.begin_move(target)
    write_configuration([source, target])
    services = [service for service, theirs in schema.DATABASES.items() if set(theirs) & set(names)]
    with cache.held(cache_directory, template_key()) as templates, _supervisor(state, source.site, observe) as control:
        source, target = (replace(each, templates=templates.directory) for each in (source, target))
        try:
            start_plan(control, plan_of(state, source, target, services, templates.directory), observe)
            return _transfer(source, target, names, observe)
        except (TransferError, AtollError) as error:
            if isinstance(error, AtollError) and error.kind.code != "site.failed":
                raise
            hint = f"{source.site} still has its data in {places.described(source)}; the same command tries again"
            raise AtollError("database.failed", str(error), hint) from None


@contextmanager
def _supervisor(state: State, site: str, observe: Observer) -> Iterator[SupervisorClient]:
    """Yield the supervisor with no process of the site running, and stop processes that the block has started when it ends."""

    def stop(control: SupervisorClient) -> None:
        for event in control.stop([status.name for status in control.status() if status.name.startswith(f"{site}/")]):
            observe(event)

    ran = connect(state.root) is not None
    control = ensure_supervisor(state.root)
    stop(control)
    try:
        yield control
    finally:
        stop(control)
        if not ran:
            control.shutdown()


def _transfer(source: Settings, target: Settings, names: Sequence[str], observe: Observer) -> dict[str, Copied]:
    copied = {}
    for service, theirs in schema.DATABASES.items():
        for name in (each for each in theirs if each in names):
            with _observed(f"{source.site}/{name}", observe):
                if target.engine in schema.FILES:
                    schema.make_file(target, service, name)
                copied[name] = database.transfer(source, target, name)
    for name in names:
        database.finish(source, target, name)
    return copied


@contextmanager
def _observed(name: str, observe: Observer) -> Iterator[None]:
    begun = time.monotonic()
    observe(Event(name, ProcessState.STARTING, 0.0))
    yield
    observe(Event(name, ProcessState.DONE, time.monotonic() - begun))


def _switch(state: State, cloud: Cloud, target: Settings) -> None:
    """Record the place of the site's databases. The first statement decides; each `up` repeats the others, which only follow from it."""
    write_private(state.cloud_file, dump_cloud(cloud))
    target.save()
    places.end_move(target)


def left_behind(state: State, name: str) -> tuple[str, ...]:
    """Return, as text, the places of a site that it does not use and that may still have its data.

    Raises:
        AtollError: `site.unknown`, `cloud.*`, `state.*`.
    """
    state.check()
    check_known(state, [name])
    return tuple(map(places.described, _others(state, name)))


def _others(state: State, name: str) -> list[Settings]:
    return list(places.others(databases.used(applied_cloud(state), load_settings(state.site(name)))))


def clean(state: State, name: str) -> tuple[str, ...]:
    """Remove the data that moves of a site have left at other places, for good.

    Returns:
        The places as text; empty if there were none.

    Raises:
        AtollError: `site.unknown`, `cloud.*`, `state.*`; `database.left`: databases at a server could not be removed.
    """
    state.check()
    check_known(state, [name])
    with locked(state, "database clean"), translated(state.root):
        others = _others(state, name)
        _stop_servers(state, others)
        for settings in others:
            if left := databases.remove_from_server(settings):
                message = f"databases are left at their server: {'; '.join(left)}"
                raise AtollError("database.left", message, "run the same command again when the server answers")
            _remove_files(settings)
            shutil.rmtree(places.marks(settings))
    return tuple(map(places.described, others))


def _stop_servers(state: State, others: Sequence[Settings]) -> None:
    """Stop the servers of places that a killed move has started."""
    control = connect(state.root)
    if control is not None:
        running = {status.name for status in control.status()}
        for _event in control.stop([name for each in others if not each.server and (name := f"{each.site}/{each.engine}") in running]):
            pass


def _remove_files(settings: Settings) -> None:
    if settings.engine == SQLITE:
        for names in schema.DATABASES.values():
            for name in names:
                schema.remove_file(settings.database_file(name))
    elif not settings.server:
        shutil.rmtree(settings.data / settings.engine, ignore_errors=True)
    shutil.rmtree(settings.replicas, ignore_errors=True)

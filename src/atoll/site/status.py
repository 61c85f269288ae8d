"""What runs, how long, and what it takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from atoll.cloud import Cloud, Site
from atoll.runtime.control import ProcessStatus, connect
from atoll.site.composition import services_of
from atoll.site.sites import applied_cloud, check_known
from atoll.site.state import State

STOPPED = "stopped"


@dataclass(frozen=True)
class Row:
    """One process, or the one that should be there.

    Attributes:
        name: `site/service`, or the fork server's name, or "supervisor".
        state: of the runtime's states; "stopped" if it doesn't run.
        pid: None if it doesn't run.
        memory_bytes: its proportional set size; None if it doesn't run.
        uptime_s: seconds since its start; None if it doesn't run.
        restarts: how often it was started again after it had died.
        exit: how its last run ended: exit code, or the negative number of a signal; None if it never ended.
        log: path of its log; empty if it never ran.
    """

    name: str
    state: str
    pid: int | None = None
    memory_bytes: int | None = None
    uptime_s: float | None = None
    restarts: int = 0
    exit: int | None = None
    log: str = ""


@dataclass(frozen=True)
class SiteStatus:
    """One site.

    Attributes:
        name: its name.
        kind: "full" or "compute".
        control: the control site of a compute site; None for a full one.
        state: "up" if all its services are ready, "stopped" if none runs, otherwise "partial".
        url: of its identity API; that of a compute site is its control site's.
        memory_bytes: of all its processes.
        processes: one row per service.
    """

    name: str
    kind: str
    control: str | None
    state: str
    url: str
    memory_bytes: int
    processes: tuple[Row, ...]


@dataclass(frozen=True)
class CloudStatus:
    """The whole cloud.

    Attributes:
        cloud: its name; None if there is none yet.
        directory: the state directory.
        running: True if any site is not stopped.
        memory_bytes: of everything: sites, fork servers and supervisor.
        sites: those asked for.
        fork_servers: shared by all sites.
        supervisor: None if it doesn't run.
        jobs: what runs once, such as the making of templates; only those not done.
    """

    cloud: str | None
    directory: str
    running: bool
    memory_bytes: int
    sites: tuple[SiteStatus, ...]
    fork_servers: tuple[Row, ...]
    supervisor: Row | None
    jobs: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return asdict(self)


def status(state: State, names: Sequence[str] = ()) -> CloudStatus:
    """The state of a cloud.

    Args:
        state: where it is kept.
        names: of the sites wanted; none means all.

    Raises:
        AtollError: `site.unknown`, `state.*`, `runtime.unreachable`.
    """
    state.check()
    cloud = applied_cloud(state)
    if names:
        check_known(state, names)
    control = connect(state.root) if state.root.exists() else None
    found = control.status(memory=True) if control else []
    wanted = [(cloud, site) for site in cloud.sites if not names or site.name in names] if cloud else []
    sites = tuple(_site(*each, found) for each in wanted)
    return CloudStatus(
        cloud=cloud.name if cloud else None,
        directory=str(state.root),
        running=any(site.state != STOPPED for site in sites),
        memory_bytes=sum(status.memory_bytes or 0 for status in found),
        sites=sites,
        fork_servers=tuple(_row(status) for status in found if status.kind == "fork_server"),
        supervisor=next((_row(status) for status in found if status.kind == "supervisor"), None),
        jobs=tuple(_row(status) for status in found if status.kind == "job" and status.state != "done"),
    )


def _site(cloud: Cloud, site: Site, found: Iterable[ProcessStatus]) -> SiteStatus:
    by_name = {status.name: status for status in found}
    names = [f"{site.name}/{service.name}" for service in services_of(cloud, site)]
    control = cloud.control_of(site)
    rows = tuple(_row(by_name[name]) if name in by_name else Row(name, STOPPED) for name in names)
    states = {row.state for row in rows}
    return SiteStatus(
        name=site.name,
        kind=site.kind,
        control=site.control,
        state="up" if states == {"ready"} else STOPPED if states == {STOPPED} else "partial",
        url=control.url,
        memory_bytes=sum(row.memory_bytes or 0 for row in rows),
        processes=rows,
    )


def _row(status: ProcessStatus) -> Row:
    return Row(
        name=status.name,
        state=str(status.state),
        pid=status.pid,
        memory_bytes=status.memory_bytes,
        uptime_s=None if status.uptime_s is None else round(status.uptime_s, 1),
        restarts=status.restarts,
        exit=status.exit,
        log=status.log,
    )

"""The status of a cloud: its processes, their uptime and their memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from atoll.cloud import Cloud, Site
from atoll.runtime.client import ProcessStatus, connect
from atoll.site.composition import services_of
from atoll.site.databases import described
from atoll.site.sites import applied_cloud, check_known
from atoll.site.state import State

STOPPED = "stopped"


@dataclass(frozen=True)
class Row:
    """A process, running or not.

    Attributes:
        name: `site/service`, or the fork server's name, or "supervisor".
        state: a `ProcessState`; "stopped" if it does not run.
        pid: the id of the process; `None` if it does not run.
        memory_bytes: the process's proportional set size in bytes; `None` if it does not run.
        uptime_s: seconds since its start; `None` if it does not run.
        restarts: number of times that it died and was started again.
        exit: exit code of its last run, or the negative number of a signal; `None` if no run has ended.
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
    """The status of a site.

    Attributes:
        name: the site's name.
        kind: "full" or "compute".
        control: the control site of a compute site; `None` for a full site.
        state: "up" if all its services are ready, "stopped" if none runs, otherwise "partial".
        url: URL of its identity API; a compute site has that of its control site.
        database: the engine of its databases, and the address of an existing server; empty for a compute site.
        memory_bytes: memory of all its processes, in bytes.
        processes: one row for each service.
    """

    name: str
    kind: str
    control: str | None
    state: str
    url: str
    database: str
    memory_bytes: int
    processes: tuple[Row, ...]


@dataclass(frozen=True)
class CloudStatus:
    """The status of a cloud.

    Attributes:
        cloud: the cloud's name; `None` if there is none yet.
        directory: the state directory.
        running: whether any site is not stopped.
        memory_bytes: memory of sites, fork servers and supervisor, in bytes.
        sites: the requested sites.
        fork_servers: the fork servers, which all sites share.
        supervisor: the supervisor; `None` if it does not run.
        jobs: processes that run once, such as those that build templates, unless they are done.
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
        """Return the fields, ready for `json.dumps`."""
        return asdict(self)


def status(state: State, names: Sequence[str] = ()) -> CloudStatus:
    """Return the status of a cloud.

    Args:
        state: the state directory.
        names: names of the sites to include; none means all.

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
        database=described(site),
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

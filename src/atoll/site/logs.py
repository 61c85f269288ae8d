"""The logs of sites and services: their last lines, and the lines that are added."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from atoll.errors import AtollError
from atoll.site.composition import log_names
from atoll.site.sites import applied_cloud, check_known
from atoll.site.state import State

POLL_S = 0.25
"""Seconds between two reads of followed files: a higher value delays lines, a lower one costs processor time."""

_BLOCK = 64 * 1024


@dataclass
class Log:
    """A log file, and the position up to which it was read.

    Attributes:
        name: `site/service`, or "supervisor", or `template/service`.
        path: the file's path, which need not exist yet.
        offset: number of bytes read so far.
    """

    name: str
    path: Path
    offset: int = 0
    _inode: int = field(default=0, repr=False)
    _partial: bytes = field(default=b"", repr=False)

    def tail(self, count: int) -> list[str]:
        """Return the last lines; the next `added` continues after them."""
        try:
            with self.path.open("rb") as file:
                self._inode = _inode(self.path)
                end = file.seek(0, 2)
                content, start = b"", end
                while start > 0 and content.count(b"\n") <= count:
                    start = max(0, start - _BLOCK)
                    file.seek(start)
                    content = file.read(end - start)
        except FileNotFoundError:
            return []
        self.offset = end
        return [_text(line) for line in content.splitlines()[-count:]] if count else []

    def added(self) -> list[str]:
        """Return the whole lines written since the last call, from the start of the file if it was replaced or truncated."""
        try:
            with self.path.open("rb") as file:
                inode = _inode(self.path)
                if inode != self._inode or file.seek(0, 2) < self.offset:
                    self._inode, self.offset, self._partial = inode, 0, b""
                file.seek(self.offset)
                content = self._partial + file.read()
                self.offset = file.tell()
        except FileNotFoundError:
            return []
        *lines, self._partial = content.split(b"\n")
        return [_text(line) for line in lines]


def _inode(path: Path) -> int:
    return path.stat().st_ino


def _text(line: bytes) -> str:
    return line.decode("utf-8", errors="replace").rstrip("\r\n")


def logs_of(state: State, target: str | None) -> list[Log]:
    """Return the logs of a site, a service, the supervisor or the template jobs.

    Args:
        state: the state directory of the cloud.
        target: `SITE`, `SITE/SERVICE`, "supervisor", `template/SERVICE`; None means all sites' logs.

    Raises:
        AtollError: `site.unknown`, `cloud.not_found`, `state.*`.
    """
    state.check()
    if target == "supervisor":
        return [Log("supervisor", state.supervisor_log)]
    site, _, service = (target or "").partition("/")
    cloud = applied_cloud(state)
    if site == "template":
        return [Log(name, path) for name, path in _templates(state) if service in ("", name.partition("/")[2])]
    check_known(state, [site] if site else [])
    sites = [(each, log_names(cloud, each)) for each in cloud.sites if site in ("", each.name)] if cloud else []
    logs = [Log(f"{each.name}/{name}", state.site(each.name) / "log" / f"{name}.log") for each, names in sites for name in names]
    if not service:
        return logs
    chosen = [log for log in logs if log.name == target]
    if not chosen:
        known_names = ", ".join(log.name for log in logs)
        raise AtollError("site.unknown", f"{site} runs no {service}: expected one of {known_names}", f"`atoll status {site}`")
    return chosen


def _templates(state: State) -> list[tuple[str, Path]]:
    paths = sorted(state.logs.glob("template-*.log"))
    return [(path.stem.replace("-", "/", 1), path) for path in paths]


def follow(logs: Sequence[Log], sleep: Callable[[float], None] = time.sleep) -> Iterator[tuple[Log, str]]:
    """Yield lines as they are written, for ever."""
    while True:
        for log in logs:
            for line in log.added():
                yield log, line
        sleep(POLL_S)

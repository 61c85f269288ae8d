"""The state directory: layout of the files of one cloud, their lock, and the version that wrote them.

    STATE/version         the versions that wrote it (JSON)
          cloud.yaml      the cloud as last applied
          clouds.yaml     for OpenStack's clients: one entry for each site
          code            the key of the code of the running processes
          joining.json    of a site that joins, until it is up (`joining.py`)
          lock            held by the command that changes the cloud
          control.sock, supervisor.lock, supervisor.log    of the runtime
          ca/             the cloud's certificate authority
          log/            logs of fork servers and template jobs
          sites/NAME/     settings.json, etc/, log/, data/, tls/, run/

Directories have mode 0700 and files 0600, as they contain databases, keys and passwords.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from atoll.errors import AtollError
from atoll.files import make_directory, write_private
from atoll.site.versions import installed, same_release

MIN_FREE_BYTES = 500_000_000
"""Least number of free bytes for a start. Templates and a new site take about a fifth of them; the rest is for images."""

_OWN_FILES = frozenset({"lock", ".version.new", "supervisor.lock", "supervisor.log", "control.sock", "wan.lock", "wan.log", "wan.sock"})
"""Files that may be in a state directory before the version file is written."""


def default_state() -> Path:
    """Return the default state directory, $XDG_STATE_HOME/atoll."""
    from platformdirs import user_state_path

    return user_state_path("atoll")


def default_cache() -> Path:
    """Return the default cache directory, $XDG_CACHE_HOME/atoll."""
    from platformdirs import user_cache_path

    return user_cache_path("atoll")


@dataclass(frozen=True)
class State:
    """The state directory of one cloud.

    Attributes:
        root: the directory's absolute path, which need not exist.
    """

    root: Path

    @property
    def version_file(self) -> Path:
        """The file with the versions that wrote the directory."""
        return self.root / "version"

    @property
    def cloud_file(self) -> Path:
        """The YAML of the cloud as last applied."""
        return self.root / "cloud.yaml"

    @property
    def joining_file(self) -> Path:
        """The note of a site that has begun to join a cloud and is not up yet."""
        return self.root / "joining.json"

    @property
    def clouds_file(self) -> Path:
        """The clouds.yaml for OpenStack's clients."""
        return self.root / "clouds.yaml"

    @property
    def code_file(self) -> Path:
        """The file with the key of the code of the running processes."""
        return self.root / "code"

    @property
    def supervisor_log(self) -> Path:
        """The log of the supervisor."""
        return self.root / "supervisor.log"

    @property
    def logs(self) -> Path:
        """The directory of the logs of fork servers and template jobs."""
        return self.root / "log"

    @property
    def authority(self) -> Path:
        """The directory of the cloud's certificate authority."""
        return self.root / "ca"

    def site(self, name: str) -> Path:
        """Return the directory of a site."""
        return self.root / "sites" / name

    def existing_sites(self) -> list[str]:
        """Return the names of the sites that have a directory."""
        with suppress(OSError):
            return sorted(path.parent.name for path in (self.root / "sites").glob("[a-z]*/settings.json"))
        return []

    def check(self) -> None:
        """Check that the directory is Atoll's, of this version, and accessible.

        Raises:
            AtollError: `state.version` or `state.unusable`.
        """
        hint = "use another directory with --state DIR"
        there = _nearest(self.root)
        if not there.is_dir():
            raise AtollError("state.unusable", f"{there} is not a directory", hint)
        if there != self.root:
            return
        if not os.access(self.root, os.R_OK | os.W_OK | os.X_OK):
            raise AtollError("state.unusable", f"{self.root}: permission denied: expected a directory of your own", hint)
        try:
            text = self.version_file.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            if any(path.name not in _OWN_FILES for path in self.root.iterdir()):
                message = f"{self.root} holds something else: expected an empty directory or one that atoll made"
                raise AtollError("state.unusable", message, hint) from None
            return
        except OSError as error:
            raise AtollError("state.unusable", f"{self.version_file}: {error.strerror}", hint) from None
        _check_version(self.root, text)

    def stamp(self) -> None:
        """Create the directory, and write the version file."""
        make_directory(self.root)
        self.root.chmod(0o700)
        # The version first: if the command dies after it, the directory is recognised as Atoll's.
        write_private(self.version_file, json.dumps(installed(), indent=2) + "\n")
        make_directory(self.root / "sites")
        make_directory(self.logs)


def _check_version(root: Path, text: str) -> None:
    ours = installed()
    try:
        theirs = json.loads(text)
        if not isinstance(theirs, dict) or "atoll" not in theirs:
            raise TypeError  # noqa: TRY301 - a number alone is JSON too
    except (ValueError, TypeError):
        theirs = {"atoll": text.strip()[:40] or "an unknown version"}
    differing = [name for name in ours if not same_release(str(theirs.get(name, "")), ours[name])]
    if not differing:
        return
    # Upstream versions matter only if Atoll's own is the same: then another lock file was installed.
    names = ["atoll"] if "atoll" in differing else differing
    wrote = ", ".join(f"{name} {theirs.get(name, 'unknown')}" for name in names)
    have = ", ".join(f"{name} {ours[name]}" for name in names)
    hint = "use that version again, or `atoll destroy` the cloud, or use another directory with --state DIR"
    raise AtollError("state.version", f"{root} was written by {wrote}, and this is {have}", hint)


def check_space(*directories: Path) -> None:
    """Check that file systems have enough free space for a start.

    Args:
        directories: directories that need not exist; the file systems that they would be created on are checked.

    Raises:
        AtollError: `state.space`: a file system has less than `MIN_FREE_BYTES` free.
    """
    for directory in directories:
        _total, _used, free = shutil.disk_usage(_nearest(directory))
        if free < MIN_FREE_BYTES:
            message = f"{directory}: {free // 10**6} MB free: expected at least {MIN_FREE_BYTES // 10**6} MB"
            hint = "free some space, or use another file system with --state DIR and XDG_CACHE_HOME"
            raise AtollError("state.space", message, hint)


def _nearest(path: Path) -> Path:
    """Return the longest part of a path that exists."""
    return next((each for each in (path, *path.parents) if each.exists()), Path("/"))


@contextmanager
def translated(root: Path) -> Iterator[None]:
    """Turn an OSError that is raised in the context into an AtollError.

    Raises:
        AtollError: `state.space` or `state.unusable`.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = error.filename or root
        hint = "free some space" if full else _hint_at(Path(what), root)
        message = f"{what}: {(error.strerror or str(error)).lower()}"
        raise AtollError("state.space" if full else "state.unusable", message, hint) from error


def _hint_at(refused: Path, root: Path) -> str:
    """Return the hint for an unusable path: how to choose another state directory or, if the path is not in it, another cache directory."""
    concerned = refused == root or root in refused.parents or refused in root.parents
    return "use another directory with --state DIR" if concerned else "set XDG_CACHE_HOME to a directory of your own"


@contextmanager
def locked(state: State, command: str) -> Iterator[None]:
    """Hold the lock of the commands that change this cloud; a new directory without state is removed at the end.

    Raises:
        AtollError: `state.busy`, with the name of the other command.
    """
    existed = state.root.exists()
    with translated(state.root):
        make_directory(state.root)
        path = state.root / "lock"
        descriptor = _take(path)
    try:
        os.truncate(descriptor, 0)
        os.write(descriptor, f"atoll {command}, pid {os.getpid()}".encode())
        yield
    finally:
        # Emptied first, and removed only if the directory has no state: other commands may use the same file.
        os.truncate(descriptor, 0)
        if not state.version_file.exists():
            path.unlink(missing_ok=True)
            if not existed:
                with suppress(OSError):
                    state.root.rmdir()
        os.close(descriptor)


def _take(path: Path) -> int:
    """Return the descriptor of the lock file, locked."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "its name is not known"
            os.close(descriptor)
            message = f"another command is changing the cloud in {path.parent} ({holder})"
            raise AtollError("state.busy", message, "wait until it has ended, and run this one again") from None
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)  # `destroy` has removed the file meanwhile

"""The state directory: where everything of one cloud is kept, who may use it, and which version wrote it.

    STATE/version         which versions wrote it (JSON)
          cloud.yaml      the cloud as last applied
          clouds.yaml     for OpenStack's clients: one entry per site
          code            the key of the code that the running processes were started with
          lock            held by the command that changes the cloud
          control.sock, supervisor.lock, supervisor.log    the runtime's
          ca/             the cloud's certificate authority
          log/            what fork servers and template jobs wrote
          sites/NAME/     settings.json, etc/, log/, data/, tls/, run/

Directories are 0700 and files 0600: databases, keys and passwords are below here.
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
"""Free space, in bytes, that a start needs: templates and a fresh site take about a fifth of it, the rest is for images."""

_OWN_FILES = frozenset({"lock", "supervisor.lock", "supervisor.log", "control.sock", "wan.lock", "wan.log", "wan.sock"})
"""What may be in a directory that no `up` has succeeded in yet."""


def default_state() -> Path:
    """$XDG_STATE_HOME/atoll, or what stands for it."""
    from platformdirs import user_state_path  # noqa: PLC0415 - `atoll --help` needs none

    return user_state_path("atoll")


def default_cache() -> Path:
    """$XDG_CACHE_HOME/atoll, or what stands for it."""
    from platformdirs import user_cache_path  # noqa: PLC0415

    return user_cache_path("atoll")


@dataclass(frozen=True)
class State:
    """A state directory.

    Attributes:
        root: its absolute path. It need not exist.
    """

    root: Path

    @property
    def version_file(self) -> Path:
        """Which versions wrote the directory."""
        return self.root / "version"

    @property
    def cloud_file(self) -> Path:
        """The cloud as last applied."""
        return self.root / "cloud.yaml"

    @property
    def clouds_file(self) -> Path:
        """What OpenStack's clients read."""
        return self.root / "clouds.yaml"

    @property
    def code_file(self) -> Path:
        """The key of the code that runs."""
        return self.root / "code"

    @property
    def supervisor_log(self) -> Path:
        """What the supervisor wrote."""
        return self.root / "supervisor.log"

    @property
    def logs(self) -> Path:
        """Where fork servers and template jobs log."""
        return self.root / "log"

    @property
    def authority(self) -> Path:
        """The certificate authority of the cloud."""
        return self.root / "ca"

    def site(self, name: str) -> Path:
        """The directory of one site."""
        return self.root / "sites" / name

    def existing_sites(self) -> list[str]:
        """The names of the sites that have a directory."""
        with suppress(OSError):
            return sorted(path.parent.name for path in (self.root / "sites").glob("[a-z]*/settings.json"))
        return []

    def check(self) -> None:
        """Refuse a directory that is not ours to use.

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
        """Make the directory, and note in it which versions write it."""
        make_directory(self.root)
        self.root.chmod(0o700)
        make_directory(self.root / "sites")
        make_directory(self.logs)
        write_private(self.version_file, json.dumps(installed(), indent=2) + "\n")


def _check_version(root: Path, text: str) -> None:
    ours = installed()
    try:
        theirs = json.loads(text)
        if not isinstance(theirs, dict) or "atoll" not in theirs:
            raise TypeError  # noqa: TRY301 - a bare number is JSON too
    except (ValueError, TypeError):
        theirs = {"atoll": text.strip()[:40] or "an unknown version"}
    differing = [name for name in ours if not same_release(str(theirs.get(name, "")), ours[name])]
    if not differing:
        return
    # Upstream differs only if atoll itself doesn't: then the lock file is another.
    names = ["atoll"] if "atoll" in differing else differing
    wrote = ", ".join(f"{name} {theirs.get(name, 'unknown')}" for name in names)
    have = ", ".join(f"{name} {ours[name]}" for name in names)
    hint = "use that version again, or `atoll destroy` what it made, or use another directory with --state DIR"
    raise AtollError("state.version", f"{root} was written by {wrote}, and this is {have}", hint)


def check_space(*directories: Path) -> None:
    """Refuse to start on a file system that is nearly full.

    Args:
        directories: they need not exist; the file system they would be made on counts.

    Raises:
        AtollError: `state.space`.
    """
    for directory in directories:
        _total, _used, free = shutil.disk_usage(_nearest(directory))
        if free < MIN_FREE_BYTES:
            message = f"{directory}: {free // 10**6} MB free: expected at least {MIN_FREE_BYTES // 10**6} MB"
            hint = "free some space, or use another file system with --state DIR and XDG_CACHE_HOME"
            raise AtollError("state.space", message, hint)


def _nearest(path: Path) -> Path:
    """What exists of a path."""
    return next((each for each in (path, *path.parents) if each.exists()), Path("/"))


@contextmanager
def translated(root: Path) -> Iterator[None]:
    """Turn the operating system's refusals below `root` into errors for a person.

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
    """A way around a path that can't be used: it is in the state directory or leads to it, or else is the cache's."""
    concerned = refused == root or root in refused.parents or refused in root.parents
    return "use another directory with --state DIR" if concerned else "set XDG_CACHE_HOME to a directory of your own"


@contextmanager
def locked(state: State, command: str) -> Iterator[None]:
    """Be the only command that changes this cloud. What leaves no state behind leaves no directory behind either.

    Raises:
        AtollError: `state.busy`, naming the other command.
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
        # Emptied first, taken away only if nothing else is here: others may be waiting at this very file.
        os.truncate(descriptor, 0)
        if not state.version_file.exists():
            path.unlink(missing_ok=True)
            if not existed:
                with suppress(OSError):
                    state.root.rmdir()
        os.close(descriptor)


def _take(path: Path) -> int:
    """The descriptor of the lock file, locked."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "it does not say which"
            os.close(descriptor)
            message = f"another command is changing the cloud in {path.parent} ({holder})"
            raise AtollError("state.busy", message, "wait until it has ended, and run this one again") from None
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)  # `destroy` took the file away meanwhile

"""The cache of schema templates: one directory per code key, shared by all clouds of a user."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from atoll.files import make_directory


class Templates:
    """The templates of one code key, in use.

    Args:
        directory: where they are.
        descriptor: of that directory, locked.
    """

    def __init__(self, directory: Path, descriptor: int) -> None:
        self.directory = directory
        self._descriptor = descriptor

    def sweep(self, names: Iterable[str]) -> None:
        """Remove other keys' templates, and what killed jobs left half made; whatever another command uses stays.

        Args:
            names: of the services; anything else in the directory is a remainder.
        """
        for other in self.directory.parent.iterdir():
            if other != self.directory:
                _sweep_other(other)
        names = set(names)
        with suppress(BlockingIOError):
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for path in self.directory.iterdir():
                if path.name not in names:
                    shutil.rmtree(path, ignore_errors=True)


@contextmanager
def held(cache: Path, key: str) -> Iterator[Templates]:
    """Keep the templates of one key from being swept away by another version's `up` while this one uses them.

    Args:
        cache: the user's cache directory.
        key: which code the templates belong to.
    """
    directory = cache / "templates" / key
    for path in (cache, directory.parent, directory):
        make_directory(path)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield Templates(directory, descriptor)
    finally:
        os.close(descriptor)


def _sweep_other(directory: Path) -> None:
    with suppress(OSError):  # busy, or no directory
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
        finally:
            os.close(descriptor)

"""The cache of schema templates, databases with empty tables: a directory for each version of the code, shared by a user's clouds."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from atoll.files import make_directory


class Templates:
    """The templates for one version of the code, locked while they are used.

    Args:
        directory: the templates' directory.
        descriptor: descriptor of that directory, locked.
    """

    def __init__(self, directory: Path, descriptor: int) -> None:
        self.directory = directory
        self._descriptor = descriptor

    def sweep(self, names: Iterable[str]) -> None:
        """Remove templates for other versions of the code, and remains of killed jobs, unless another command uses them.

        Args:
            names: names of the services; all other entries of the directory are remains.
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
    """Yield the templates for one version of the code, and hold them: another version's `up` does not remove them meanwhile.

    Args:
        cache: the user's cache directory.
        key: the code key, a digest that identifies the version of the code.
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
    with suppress(OSError):  # in use, or not a directory
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
        finally:
            os.close(descriptor)

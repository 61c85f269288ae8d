"""Wrong clocks: each process of a site sees the site's own time of day, as if the site had its own machine.

Linux has no namespace for the time of day. So the processes of the cloud run with a preloaded library (`clocks.c`), which adds an offset to
the time. The library reads the offset of the process's network namespace from a table in a file.
"""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from atoll.errors import AtollError
from atoll.namespaces import Namespace

_ENTRY = struct.Struct("=Qq")
_ENTRIES = 256
_SOURCE = Path(__file__).with_name("clocks.c")


class Clocks:
    """The clocks of the sites of a cloud.

    Args:
        directory: the directory of the library and the table.

    Raises:
        AtollError: `bench.requirement`: no C compiler is installed, or the compilation failed.
    """

    def __init__(self, directory: Path) -> None:
        self._table_file = directory / "clocks"
        self._library = _compiled(directory)
        self._table_file.write_bytes(bytes(_ENTRY.size * _ENTRIES))
        with self._table_file.open("r+b") as file:
            self._table = mmap.mmap(file.fileno(), 0)
        self._index: dict[str, int] = {}

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that the processes of the cloud need."""
        return {"LD_PRELOAD": str(self._library), "ATOLL_CLOCKS": str(self._table_file)}

    def register(self, networks: Mapping[str, Namespace]) -> None:
        """Enter the network namespaces of the sites into the table; the sites' clocks are right at first."""
        for index, (site, network) in enumerate(networks.items()):
            self._index[site] = index
            _ENTRY.pack_into(self._table, index * _ENTRY.size, Path(network.network).stat().st_ino, 0)

    def set(self, site: str, ahead_s: float) -> None:
        """Set the clock of a site `ahead_s` seconds ahead of the right time."""
        struct.pack_into("=q", self._table, self._index[site] * _ENTRY.size + 8, round(ahead_s * 1e9))

    def correct(self) -> None:
        """Set all clocks to the right time."""
        for site in self._index:
            self.set(site, 0)


def _compiled(directory: Path) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise AtollError("bench.requirement", "wrong clocks need a C compiler: expected the program cc", "install gcc")
    library = directory / "clocks.so"
    words: Sequence[str] = [compiler, "-O2", "-std=gnu11", "-Wall", "-Wextra", "-shared", "-fPIC", "-o", str(library), str(_SOURCE)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AtollError("bench.requirement", f"{compiler} can't compile {_SOURCE.name}: {done.stderr.strip()[-300:]}")
    return library

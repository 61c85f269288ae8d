"""The kernel modules of a guest, with all modules on which these depend.

This module parses `modules.dep` itself instead of running kmod (`modprobe --show-depends`). kmod reads only the binary index, which
busybox's depmod does not write, and would be another program that a build requires.
"""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from atoll.errors import AtollError
from atoll.guest import programs

NEEDED = ("virtio_pci", "virtio_blk", "virtio_net")
"""Modules that every guest needs, unless they are built into the kernel."""

WANTED = (
    *("virtio_rng", "virtio_balloon", "virtio_console", "virtio_input"),
    *("virtio_scsi", "sd_mod", "sr_mod", "cdrom", "ata_piix", "ata_generic", "ahci"),
    *("iso9660", "isofs", "vfat", "nls_ascii", "nls_cp437", "nls_iso8859_1", "nls_utf8"),
    *("e1000", "e1000e", "ipv6", "af_packet", "8021q"),
    *("button", "evdev"),
)
"""Modules that a guest gets if the kernel has them. Debian's cloud kernel lacks e1000 and ahci, and other kernels have many built in."""

_PACKED = {".xz": lzma.decompress, ".gz": gzip.decompress}


def name(path: str) -> str:
    """Return a module's name from its path: virtio_rng for `kernel/drivers/virtio/virtio-rng.ko.xz`."""
    return PurePosixPath(path).name.partition(".ko")[0].replace("-", "_")


def parse(text: str) -> dict[str, tuple[str, ...]]:
    """Parse the text of a modules.dep, and return, for each module, the modules that it needs, all as paths."""
    lines = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {path.strip(): tuple(needs.split()) for path, _colon, needs in lines}


def closure(needs: Mapping[str, Iterable[str]], wanted: Iterable[str]) -> list[str]:
    """Return the paths of modules and of all modules that they need, directly or indirectly; each follows the modules that it needs.

    Args:
        needs: the result of `parse`.
        wanted: names of modules; unknown names are ignored.
    """
    paths = {name(path): path for path in needs}
    found: dict[str, None] = {}

    def add(path: str, above: frozenset[str]) -> None:
        if path in found or path in above:
            return
        for each in needs.get(path, ()):
            add(each, above | {path})
        found[path] = None

    for each in wanted:
        if each in paths:
            add(paths[each], frozenset())
    return list(found)


def choose(directory: Path) -> list[str]:
    """Return the modules that a guest needs, as paths below the directory.

    Args:
        directory: the modules of a kernel, such as /lib/modules/6.1.0-44-cloud-amd64.

    Raises:
        AtollError: `image.kernel`: the directory has no modules.dep, or the kernel lacks a module that every guest needs.
    """
    try:
        needs = parse((directory / "modules.dep").read_text(encoding="utf-8"))
        built_in = directory / "modules.builtin"
        there = {name(path) for path in (*needs, *(built_in.read_text(encoding="utf-8").split() if built_in.exists() else ()))}
    except (OSError, UnicodeDecodeError) as error:
        message = f"{directory} holds no kernel modules: {error}"
        hint = "expected a directory such as /lib/modules/VERSION; `depmod` writes its modules.dep"
        raise AtollError("image.kernel", message, hint) from None
    missing = [each for each in NEEDED if each not in there]
    if missing:
        message = f"the kernel of {directory} has no {' and no '.join(missing)}"
        raise AtollError("image.kernel", message, "expected a kernel for virtual machines")
    return closure(needs, (*NEEDED, *WANTED))


def copy(directory: Path, paths: Iterable[str], target: Path) -> None:
    """Copy modules, and decompress the copies.

    Args:
        directory: the directory of the kernel's modules.
        paths: paths of modules below it.
        target: the corresponding directory of the guest.

    Raises:
        AtollError: `image.kernel`: a module can't be read.
    """
    for path in paths:
        plain, ko, packing = path.partition(".ko")
        made = target / (plain + ko)
        made.parent.mkdir(parents=True, exist_ok=True)
        try:
            made.write_bytes(_read(directory / path, packing))
        except (OSError, lzma.LZMAError, EOFError) as error:
            raise AtollError("image.kernel", f"{directory / path} can't be read: {error}") from None


def _read(path: Path, packing: str) -> bytes:
    if packing == ".zst":
        return programs.output(["zstd", "--decompress", "--stdout", str(path)])
    return _PACKED.get(packing, bytes)(path.read_bytes())

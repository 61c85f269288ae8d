"""The memory of a running guest, read while it runs: a guess at the memory that will be saved when the guest is stopped.

    python -m atoll.services.nova.live_memory < TASK

TASK is a JSON object: `socket`, libvirt's socket; `server`, the server's id; `memory` and `hardware`, the files to make. The answer is a
JSON object with `length`, the size of the file in bytes, or with `reason`, the reason of a failure in one line.

The gateway sends this guess to the destination of a hand-off while the server runs. So only the difference to the memory that is saved at
last is sent while the server is stopped. The guest writes meanwhile, so the guess is not of one moment, which does no harm. It has each
page at its place in libvirt's save image (`synthesis/save_image.py`), so most pages of the save image equal the page at the same place.

`virDomainMemoryPeek` reads the guest's physical memory by QEMU's `pmemsave`. It neither stops the guest nor has to be undone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from atoll.services.nova.synthesis import hardware
from atoll.services.nova.synthesis.hardware import Hardware

try:
    import libvirt
except ImportError:  # a machine without real guests
    libvirt = None

RAM_AT = 1 << 20
"""Place of the guest's memory in a save image, in bytes: QEMU aligns the first block of memory to 1 MiB, and libvirt's head is shorter."""

CHUNK = 2 << 20
"""Bytes of one request; libvirt allows 4 MiB."""

_HOLE = range(0xA0000, 0x100000)  # devices and ROMs, whose reads may have effects
_ABOVE = 4 << 30
_GIB = 1 << 30
_BELOW = {"pc-i440fx": (0xE0000000, 3 * _GIB), "pc-q35": (0xB0000000, 2 * _GIB)}
"""For each machine: the memory from which on a part of it is above 4 GiB, and the part of it that is below then, in bytes."""


def pieces(machine: str, size: int) -> Iterator[tuple[int, int, int]]:
    """Yield the pieces of a guest's memory: the place in the memory, the physical address and the length, in bytes.

    Args:
        machine: the machine type with its version.
        size: the memory in bytes.
    """
    most, below = next((found for name, found in _BELOW.items() if machine.startswith(name)), (size + 1, size))
    below = below if size >= most else size
    areas = ((0, _HOLE.start, 0), (_HOLE.stop, below, 0), (below, size, _ABOVE - below))
    for start, end, shift in areas:
        for place in range(start, min(end, size), CHUNK):
            yield place, place + shift, min(CHUNK, min(end, size) - place)


def write(domain: Any, file: Path) -> Hardware:
    """Write the memory of a running guest to a new file, with holes, and return the guest's machine.

    Args:
        domain: libvirt's domain.
        file: the file to make.

    Raises:
        libvirtError: the memory can't be read.
        OSError: the file can't be written.
    """
    found = hardware.describe(domain.XMLDesc(0))
    size = found.memory_kib << 10
    with file.open("wb") as made:
        made.truncate(RAM_AT + size)
        for place, address, length in pieces(found.machine, size):
            data = domain.memoryPeek(address, length, libvirt.VIR_MEMORY_PHYSICAL)
            if data.count(0) != len(data):
                made.seek(RAM_AT + place)
                made.write(data)
    return found


def run(task: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out a task; see the module.

    Returns:
        The answer's fields.
    """
    if libvirt is None:
        return {"reason": "Python's libvirt is missing"}
    memory, machine = Path(task["memory"]), Path(task["hardware"])
    try:
        domain = libvirt.open(f"qemu+unix:///system?socket={task['socket']}").lookupByUUIDString(task["server"])
        found = write(domain, memory)
        machine.write_bytes(found.pack())
    except (libvirt.libvirtError, OSError) as error:
        memory.unlink(missing_ok=True)
        return {"reason": " ".join(str(error).split())[:200]}
    return {"length": memory.stat().st_size}


if __name__ == "__main__":
    json.dump(run(json.load(sys.stdin)), sys.stdout)

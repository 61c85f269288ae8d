"""The conditions under which a server resumes the memory of an overlay, instead of booting from its disk.

QEMU reads the states of devices from the memory image, and the overlay's maker chose all of their bytes. So an administrator decides whose
memory a site resumes, and a memory image is refused by its signed description, before anything is made, if the server is another machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atoll.cloudlet.description import MEMORY, ImageDescription
from atoll.cloudlet.failures import invalid
from atoll.errors import AtollError

HARDWARE = "hardware"
"""The part that describes the machine of a guest with memory."""

MEMORY_SLACK_BYTES = 256 << 20
"""Bytes by which the part `memory` may be larger than the guest's memory: it holds the memory and the states of devices too."""

HARDWARE_BYTES = 1 << 16
"""Greatest size of the part `hardware` in bytes."""


@dataclass(frozen=True)
class Resume:
    """The conditions under which a server may resume the memory of an overlay, and the files to make.

    Attributes:
        memory: the file to make of the part `memory`.
        hardware: the file to make of the part `hardware`.
        refused: the reason why no memory is resumed; empty if it is.
        cpu: the CPU model of the server.
        machine: the machine type of the server.
        mib: the memory of the server in MiB.
        keys: the names of the keys whose memory is resumed; `None` means all trusted keys.
    """

    memory: Path
    hardware: Path
    refused: str = ""
    cpu: str = ""
    machine: str = ""
    mib: int = 0
    keys: Sequence[str] | None = None

    def check(self, result: ImageDescription, key: str, title: str) -> None:
        """Check an image with memory by its description, before anything is made of it.

        Args:
            result: the description in the overlay's signed header.
            key: the name of the key that has signed the overlay.
            title: the overlay's name, for errors.

        Raises:
            AtollError: `cloudlet.invalid`: the memory is not resumed here, or of another size; `cloudlet.untrusted`: the key is not one
                whose memory is resumed; `cloudlet.cpu`: the memory is of another CPU model or machine type.
        """
        if self.refused:
            raise invalid(title, self.refused)
        if self.keys is not None and key not in self.keys:
            message = f"{title}: its memory is signed by none of the keys whose memory this site resumes (cloudlet_memory_keys)"
            raise AtollError("cloudlet.untrusted", message)
        for what, needed, found in (("CPU model", result.cpu, self.cpu), ("machine type", result.machine, self.machine)):
            if needed != found:
                message = f"{title} has memory of the {what} {needed or 'of an unknown name'}, but the server's is {found}"
                raise AtollError("cloudlet.cpu", message)
        memory, hardware = result.part(MEMORY), result.part(HARDWARE)
        assert memory is not None
        assert hardware is not None
        least = self.mib << 20
        if not least <= memory.size <= least + MEMORY_SLACK_BYTES:
            raise invalid(title, f"the memory: {memory.size >> 20} MiB: expected that of a server with {self.mib} MiB of memory")
        if hardware.size > HARDWARE_BYTES:
            raise invalid(title, f"the part {HARDWARE} has {hardware.size} bytes: expected at most {HARDWARE_BYTES}")

"""The files of a captured guest, which `atoll cloudlet capture` writes: parts of an image, and what describes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from atoll.cloudlet.description import MEMORY
from atoll.cloudlet.failures import invalid
from atoll.cloudlet.resume import HARDWARE, HARDWARE_BYTES
from atoll.errors import AtollError
from atoll.files import read_regular

PARTS = ("disk", HARDWARE, MEMORY)
"""The names of the files, which are those of the parts."""


@dataclass(frozen=True)
class Captured:
    """The files of a captured guest, and the machine that they need.

    Attributes:
        parts: the file of each part, by the part's name.
        cpu: the CPU model.
        machine: the machine type.
    """

    parts: Mapping[str, Path]
    cpu: str
    machine: str


def read_captured(directory: Path) -> Captured:
    """Return the files of a captured guest, with the CPU model and the machine type that they need.

    Raises:
        AtollError: `cloudlet.invalid`: the directory is not one that `atoll cloudlet capture` wrote.
    """
    return Captured({name: directory / name for name in PARTS}, *read_hardware(directory / HARDWARE, str(directory)))


def read_hardware(file: Path, where: str) -> tuple[str, str]:
    """Return the CPU model and the machine type that the file with the part `hardware` describes.

    Args:
        file: the file.
        where: the name of the captured guest, for the error.

    Raises:
        AtollError: `cloudlet.invalid`: the file does not describe a machine.
    """
    try:
        found = json.loads(read_regular(file, HARDWARE_BYTES))
        cpu, machine = found["cpu"], found["machine"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError, AtollError):
        cpu = machine = None
    if not isinstance(cpu, str) or not isinstance(machine, str) or not cpu:
        raise invalid(where, "this is not a captured guest", "expected a directory that `atoll cloudlet capture` wrote")
    return cpu, machine

"""The programs that an image is made with, and those that it is made of."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from atoll.errors import AtollError

TOOLS = {"busybox": "busybox-static", "cpio": "cpio", "mformat": "mtools", "mcopy": "mtools", "syslinux": "syslinux"}
"""The Debian package of each program that a build needs."""

FETCHING = {"apt-get": "apt", "apt-cache": "apt", "dpkg-deb": "dpkg"}
"""The same for fetching a kernel."""

APPLETS = frozenset({
    "acpid", "awk", "depmod", "findfs", "httpd", "init", "ip", "modprobe", "mount", "poweroff", "reboot", "renice", "sh", "timeout",
    "udhcpc", "uevent", "wget",
})  # fmt: skip
"""What the scripts of `root/` need of busybox, beside what any has: not all of Debian's packages of it have all of these."""

_SYSTEM = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin")
"""Not all of them are on a person's PATH."""

_LIBRARY = re.compile(r"^\s*(?:\S+ => )?(/\S+) \(0x[0-9a-f]+\)$", re.MULTILINE)

_EPOCH = 1767225600
"""The time, in Unix seconds, that all files of an image have, so that the same files make the same image: the year 2026."""


def find(program: str) -> Path | None:
    """A program of this machine; None if it isn't installed."""
    found = shutil.which(program, path=os.pathsep.join((os.environ.get("PATH", ""), *_SYSTEM)))
    return Path(found) if found else None


def check(packages: Mapping[str, str] = TOOLS) -> None:
    """Make sure that programs are installed.

    Args:
        packages: the Debian package of each.

    Raises:
        AtollError: `image.requirement`, naming the packages that are missing.
    """
    missing = {package for program, package in packages.items() if find(program) is None}
    if packages is TOOLS and "busybox-static" not in missing and not applets() >= APPLETS:
        missing.add("busybox-static")
    if missing:
        names = sorted(missing)
        message = f"the guest image can't be made without Debian's {' and '.join(names)}"
        raise AtollError("image.requirement", message, f"`sudo apt-get install --no-install-recommends {' '.join(names)}`")


def applets() -> frozenset[str]:
    """What the busybox of this machine can do."""
    return frozenset(run(["busybox", "--list"]).split())


def run(command: Sequence[str], directory: Path | None = None, entered: bytes = b"") -> str:
    """Run a program of this machine to its end.

    Args:
        command: the program's name, and its arguments.
        directory: where; None: here.
        entered: its standard input.

    Returns:
        Its standard output.

    Raises:
        AtollError: `image.failed`, with the last line of what it said.
    """
    return output(command, directory, entered).decode(errors="replace")


def output(command: Sequence[str], directory: Path | None = None, entered: bytes = b"") -> bytes:
    """The same as `run`, for output that is no text."""
    words = [str(find(command[0]) or command[0]), *command[1:]]
    environment = os.environ | {"LC_ALL": "C", "SOURCE_DATE_EPOCH": str(_EPOCH)}
    try:
        done = subprocess.run(words, cwd=directory, env=environment, input=entered, capture_output=True, check=False)
    except OSError as error:
        raise AtollError("image.failed", f"{words[0]} can't be run: {(error.strerror or str(error)).lower()}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise AtollError("image.failed", f"{command[0]} failed: {said[-1]}")
    return done.stdout


def libraries(program: Path) -> list[Path]:
    """The shared libraries of a program, its loader too, where the program looks for them; none if it is linked statically."""
    try:
        said = run(["ldd", str(program)])
    except AtollError:  # "not a dynamic executable" is a failure
        return []
    return [Path(path) for path in _LIBRARY.findall(said)]


def age(paths: Iterable[Path]) -> None:
    """Give files the time that all files of an image have."""
    for path in paths:
        os.utime(path, (_EPOCH, _EPOCH), follow_symlinks=False)

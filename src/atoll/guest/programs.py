"""The programs that build an image, and the programs that it contains."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from atoll.errors import AtollError

TOOLS = {"busybox": "busybox-static", "cpio": "cpio", "mformat": "mtools", "mcopy": "mtools", "syslinux": "syslinux"}
"""The Debian package of each program that a build runs."""

FETCHING = {"apt-get": "apt", "apt-cache": "apt", "dpkg-deb": "dpkg"}
"""The Debian package of each program that fetches a kernel."""

APPLETS = frozenset({
    "acpid", "awk", "depmod", "findfs", "httpd", "init", "ip", "modprobe", "mount", "poweroff", "reboot", "renice", "sh", "timeout",
    "udhcpc", "uevent", "wget",
})  # fmt: skip
"""Busybox applets that the scripts of `root/` need, but that only some of Debian's busybox packages have."""

_SYSTEM = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin")
"""Directories of programs, because a user's PATH may lack some of them."""

_LIBRARY = re.compile(r"^\s*(?:\S+ => )?(/\S+) \(0x[0-9a-f]+\)$", re.MULTILINE)

_EPOCH = 1767225600
"""The Unix time, in seconds, of all files of an image, so that the same files make the same image: 1 January 2026."""


def find(program: str) -> Path | None:
    """Return the path of a program; `None` if it is not installed."""
    found = shutil.which(program, path=os.pathsep.join((os.environ.get("PATH", ""), *_SYSTEM)))
    return Path(found) if found else None


def check(packages: Mapping[str, str] = TOOLS) -> None:
    """Check that programs are installed.

    Args:
        packages: the Debian package of each program.

    Raises:
        AtollError: `image.requirement`: programs are missing; the message names their packages.
    """
    missing = {package for program, package in packages.items() if find(program) is None}
    if packages is TOOLS and "busybox-static" not in missing and not applets() >= APPLETS:
        missing.add("busybox-static")
    if missing:
        names = sorted(missing)
        message = f"the guest image can't be built without Debian's {' and '.join(names)}"
        raise AtollError("image.requirement", message, f"`sudo apt-get install --no-install-recommends {' '.join(names)}`")


def applets() -> frozenset[str]:
    """Return the applets of this machine's busybox."""
    return frozenset(run(["busybox", "--list"]).split())


def run(command: Sequence[str], directory: Path | None = None, entered: bytes = b"") -> str:
    """Run a program to its end, and return its standard output as text.

    Args:
        command: the program's name, and its arguments.
        directory: the program's working directory; `None` means the present one.
        entered: the program's standard input.

    Raises:
        AtollError: `image.failed`: the program can't be run or failed; the message has the last line of its standard error.
    """
    return output(command, directory, entered).decode(errors="replace")


def output(command: Sequence[str], directory: Path | None = None, entered: bytes = b"") -> bytes:
    """Run a program as `run` does, and return its standard output as bytes."""
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
    """Return the paths of a program's shared libraries and its loader; none if it is linked statically."""
    try:
        said = run(["ldd", str(program)])
    except AtollError:  # ldd fails for a program that is linked statically ("not a dynamic executable")
        return []
    return [Path(path) for path in _LIBRARY.findall(said)]


def age(paths: Iterable[Path]) -> None:
    """Set the time of each file to `_EPOCH`, so that equal files make equal images."""
    for path in paths:
        os.utime(path, (_EPOCH, _EPOCH), follow_symlinks=False)

"""The kernel of the image: a given one, this machine's, one of the cache, or one that apt fetches."""

from __future__ import annotations

import hashlib
import re
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from atoll.errors import AtollError
from atoll.guest import programs, space

METAPACKAGE = "linux-image-cloud-amd64"
"""Depends on the newest of the kernels that Debian makes for clouds."""

Say = Callable[[str], None]
"""Told what is going on."""

_PACKAGE = re.compile(r"\blinux-image-[0-9][\w.+-]*")
_HINT = f"`sudo apt-get update`, or `sudo apt-get install {METAPACKAGE}`, or give one with --kernel and --modules"


@dataclass(frozen=True)
class Kernel:
    """A kernel, as files.

    Attributes:
        image: what the boot loader loads.
        modules: the directory of its modules, which has modules.dep, and is called like its version.
    """

    image: Path
    modules: Path

    @property
    def version(self) -> str:
        """What `uname -r` says."""
        return self.modules.name


@dataclass(frozen=True)
class Given:
    """A kernel that is there: one that somebody names, or one that is installed.

    Attributes:
        image: its vmlinuz.
        modules: its directory in /lib/modules.
    """

    image: Path
    modules: Path

    def __str__(self) -> str:
        return str(self.image)

    def identity(self) -> str:
        """What tells it from others."""
        digest = hashlib.sha256()
        for path in (self.image, self.modules / "modules.dep"):
            digest.update(path.read_bytes() if path.exists() else b"")
        return f"{self.modules.name} {digest.hexdigest()}"

    def check(self) -> None:
        """Make sure that the file is a kernel, and that the modules are its own.

        Raises:
            AtollError: `image.kernel`.
        """
        version = _version(self.image)
        if version != self.modules.resolve().name:
            message = f"{self.image} is Linux {version}, and {self.modules} has the modules of another"
            raise AtollError("image.kernel", message, f"expected a directory that is called {version}")

    @contextmanager
    def opened(self) -> Iterator[Kernel]:
        """Its files."""
        self.check()
        yield Kernel(self.image, self.modules.resolve())


@dataclass(frozen=True)
class Package:
    """A kernel in a Debian package.

    Attributes:
        file: the package, a .deb.
    """

    file: Path

    def __str__(self) -> str:
        return self.file.stem

    def identity(self) -> str:
        """What tells it from others."""
        return self.file.name

    @contextmanager
    def opened(self) -> Iterator[Kernel]:
        """Its files, unpacked for a while."""
        with tempfile.TemporaryDirectory(prefix=".unpacked-", dir=self.file.parent) as unpacked:
            root = Path(unpacked)
            programs.run(["dpkg-deb", "-x", str(self.file), unpacked])
            images, modules = list(root.glob("boot/vmlinuz-*")), list(root.glob("**/lib/modules/*"))
            if len(images) != 1 or len(modules) != 1:
                raise AtollError("image.kernel", f"{self.file} holds no kernel", f"remove it, or expect another {METAPACKAGE}")
            # A package has no modules.dep: it is made when it is installed.
            base = modules[0].parents[2]
            programs.run(["busybox", "depmod", "-b", str(base), modules[0].name])
            yield Kernel(images[0], modules[0])


Source = Given | Package


def find(given: Given | None, cache: Path, say: Say, system: Path = Path("/")) -> Source:
    """The first kernel that there is.

    Args:
        given: the one that somebody names; None if nobody does.
        cache: a directory for packages that are fetched.
        say: told what takes long.
        system: the root directory of the system whose kernel may be used.

    Raises:
        AtollError: `image.kernel`: the given one doesn't serve; `image.requirement`: there is none, and none can be fetched.
    """
    if given is not None:
        given.check()
        return given
    return installed(system) or cached(cache) or fetch(cache, say)


def installed(system: Path) -> Given | None:
    """The newest of Debian's cloud kernels, or else of its others, that is installed and that this user may read."""
    found = []
    for image in system.glob("boot/vmlinuz-*-amd64"):
        version = image.name.removeprefix("vmlinuz-")
        modules = system / "lib" / "modules" / version
        try:
            if (modules / "modules.dep").exists() and _version(image) == version:
                found.append((version.endswith("-cloud-amd64"), _numbers(version), Given(image, modules)))
        except AtollError:
            continue
    return max(found, key=lambda each: each[:2])[2] if found else None


def cached(cache: Path) -> Package | None:
    """The newest package that was fetched before."""
    found = list(cache.glob("linux-image-*_*.deb"))
    return Package(max(found, key=lambda path: _numbers(path.name))) if found else None


def fetch(cache: Path, say: Say) -> Package:
    """Have apt download Debian's newest cloud kernel, without installing it.

    Raises:
        AtollError: `image.requirement`: it can't be had; `state.space`: there is no space for it.
    """
    programs.check(programs.FETCHING)
    space.check(cache)
    try:
        known = programs.run(["apt-cache", "show", "--no-all-versions", METAPACKAGE])
        depends = "".join(line for line in known.splitlines() if line.startswith("Depends:"))
        package = _PACKAGE.search(depends)
        if package is None:
            raise AtollError("image.failed", f"apt knows no {METAPACKAGE}")  # noqa: TRY301 - told like what apt itself says
        say(f"fetching {package[0]}")
        with tempfile.TemporaryDirectory(prefix=".fetched-", dir=cache) as directory:
            # As root, apt would do this as a user who may not write here.
            programs.run(["apt-get", "download", "--option", "APT::Sandbox::User=root", package[0]], Path(directory))
            (file,) = Path(directory).glob("*.deb")
            return Package(file.replace(cache / file.name.replace("%3a", "-")))
    except AtollError as error:
        message = f"there is no kernel for the guest image in /boot or {cache}, and none can be fetched: {error.message}"
        raise AtollError("image.requirement", message, _HINT) from None


def _version(image: Path) -> str:
    """The version in the header of a kernel; see Documentation/arch/x86/boot.rst of Linux."""
    try:
        with image.open("rb") as file:
            head = file.read(0x8000)
        (offset,) = struct.unpack_from("<H", head, 0x20E)
        words = head[0x200 + offset : 0x400 + offset].partition(b"\0")[0].decode().split()
    except (OSError, struct.error, UnicodeDecodeError) as error:
        raise AtollError("image.kernel", f"{image} can't be read: {error}", "expected a kernel such as /boot/vmlinuz-VERSION") from None
    if head[0x202:0x206] != b"HdrS" or not words:
        raise AtollError("image.kernel", f"{image} is not a kernel of Linux for x86", "expected a file such as /boot/vmlinuz-VERSION")
    return words[0]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text))

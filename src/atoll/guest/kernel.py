"""The kernel of the guest image: one that the user names, an installed one, one in the cache, or one that apt fetches."""

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
"""The Debian package that depends on the newest cloud kernel."""

Say = Callable[[str], None]
"""A function that shows the user a message about progress."""

_PACKAGE = re.compile(r"\blinux-image-[0-9][\w.+-]*")
_HINT = f"`sudo apt-get update`, or `sudo apt-get install {METAPACKAGE}`, or give one with --kernel and --modules"


@dataclass(frozen=True)
class GuestKernel:
    """The files of a kernel.

    Attributes:
        image: the file that the boot loader loads.
        modules: the directory of the kernel's modules, with modules.dep; the directory's name is the kernel's version.
    """

    image: Path
    modules: Path

    @property
    def version(self) -> str:
        """The version as `uname -r` prints it."""
        return self.modules.name


@dataclass(frozen=True)
class Given:
    """A kernel on this machine: named by the user, or installed.

    Attributes:
        image: the kernel's vmlinuz.
        modules: the kernel's directory in /lib/modules.
    """

    image: Path
    modules: Path

    def __str__(self) -> str:
        return str(self.image)

    def identity(self) -> str:
        """Return a text that is different for each kernel, from which the key of an image is computed."""
        digest = hashlib.sha256()
        for path in (self.image, self.modules / "modules.dep"):
            digest.update(path.read_bytes() if path.exists() else b"")
        return f"{self.modules.name} {digest.hexdigest()}"

    def check(self) -> None:
        """Check that the file is a kernel, and that the modules are its own.

        Raises:
            AtollError: `image.kernel`: the file is not a kernel, or the modules have another version.
        """
        version = _version(self.image)
        if version != self.modules.resolve().name:
            message = f"{self.image} is Linux {version}, but {self.modules} has the modules of another version"
            raise AtollError("image.kernel", message, f"expected a directory named {version}")

    @contextmanager
    def opened(self) -> Iterator[GuestKernel]:
        """Check the kernel, and return its files."""
        self.check()
        yield GuestKernel(self.image, self.modules.resolve())


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
        """Return a text that is different for each kernel, from which the key of an image is computed."""
        return self.file.name

    @contextmanager
    def opened(self) -> Iterator[GuestKernel]:
        """Return the kernel's files, unpacked in a temporary directory."""
        with tempfile.TemporaryDirectory(prefix=".unpacked-", dir=self.file.parent) as unpacked:
            root = Path(unpacked)
            programs.run(["dpkg-deb", "-x", str(self.file), unpacked])
            images, modules = list(root.glob("boot/vmlinuz-*")), list(root.glob("**/lib/modules/*"))
            if len(images) != 1 or len(modules) != 1:
                raise AtollError("image.kernel", f"{self.file} holds no kernel", f"remove it, or expect another {METAPACKAGE}")
            # A package has no modules.dep, which its installation creates.
            base = modules[0].parents[2]
            programs.run(["busybox", "depmod", "-b", str(base), modules[0].name])
            yield GuestKernel(images[0], modules[0])


Source = Given | Package


def find(given: Given | None, cache: Path, say: Say, system: Path = Path("/")) -> Source:
    """Return the first of these kernels that exists: the given one, an installed one, a cached one, one that apt fetches.

    Args:
        given: the kernel that the user names; `None` if the user names none.
        cache: directory of fetched packages.
        say: called with messages about steps that take long.
        system: root directory of the system with the installed kernels.

    Raises:
        AtollError: `image.kernel`: the given kernel is not suitable; `image.requirement`: none is found, and none can be fetched.
    """
    if given is not None:
        given.check()
        return given
    return installed(system) or cached(cache) or fetch(cache, say)


def installed(system: Path) -> Given | None:
    """Return the newest installed Debian cloud kernel that this user may read, otherwise the newest other kernel; `None` without one."""
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
    """Return the newest fetched package; `None` if the cache has none."""
    found = list(cache.glob("linux-image-*_*.deb"))
    return Package(max(found, key=lambda path: _numbers(path.name))) if found else None


def fetch(cache: Path, say: Say) -> Package:
    """Download Debian's newest cloud kernel with apt, without installing it, and return its package.

    Raises:
        AtollError: `image.requirement`: apt can't download it; `state.space`: the file system has too little space.
    """
    programs.check(programs.FETCHING)
    space.check(cache)
    try:
        known = programs.run(["apt-cache", "show", "--no-all-versions", METAPACKAGE])
        depends = "".join(line for line in known.splitlines() if line.startswith("Depends:"))
        package = _PACKAGE.search(depends)
        if package is None:
            raise AtollError("image.failed", f"apt has no package {METAPACKAGE}")  # noqa: TRY301 - handled like apt's own errors
        say(f"fetching {package[0]}")
        with tempfile.TemporaryDirectory(prefix=".fetched-", dir=cache) as directory:
            # Run by root, apt would switch to a user who may not write here.
            programs.run(["apt-get", "download", "--option", "APT::Sandbox::User=root", package[0]], Path(directory))
            (file,) = Path(directory).glob("*.deb")
            return Package(file.replace(cache / file.name.replace("%3a", "-")))
    except AtollError as error:
        message = f"there is no kernel for the guest image in /boot or {cache}, and none can be fetched: {error.message}"
        raise AtollError("image.requirement", message, _HINT) from None


def _version(image: Path) -> str:
    """Return the version in the header of a kernel file; see Documentation/arch/x86/boot.rst of Linux."""
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

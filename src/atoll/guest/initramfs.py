"""The initramfs: the whole system of a guest, which runs from memory."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

from atoll.guest import modules, programs
from atoll.guest.kernel import GuestKernel

ROOT = Path(__file__).with_name("root")
"""Files that are copied unchanged: the init process, the guest's scripts, its web page."""

SSH = "dropbear"

DHCPV6 = "dhcpcd"
"""The program that is the guest's DHCPv6 client, because busybox has such a client only since Debian 13."""

_DIRECTORIES = (
    "bin",
    "dev",
    "proc",
    "sys",
    "run",
    "tmp",
    "etc/dropbear",
    "root/.ssh",
    "mnt",
    "run/guest",
    "var/lib/dhcpcd",
    "var/log",
    "lib/modules",
)
_LINKS = {"sbin": "bin", "usr/bin": "../bin", "usr/sbin": "../bin", "var/run": "../run", "etc/mtab": "../proc/mounts"}
_SECRET = frozenset({"root", "root/.ssh"})


def parts() -> dict[str, Path]:
    """Return the files of this machine that are copied into the guest, by their paths in the guest."""
    found = {str(path.relative_to(ROOT)): path for path in sorted(ROOT.rglob("*")) if path.is_file()}
    for program in ("busybox", SSH, DHCPV6):
        path = programs.find(program)
        if path is not None:
            found[f"bin/{program}"] = path
            found |= {str(library).lstrip("/"): library for library in programs.libraries(path)}
    return found


def write(kernel: GuestKernel, tree: Path, target: Path) -> None:
    """Write the file of an initramfs.

    Args:
        kernel: the kernel whose modules the initramfs gets.
        tree: an empty directory for the guest's files.
        target: the file to write.

    Raises:
        AtollError: `image.kernel`: the kernel has no suitable modules; `image.failed`: a program failed.
    """
    lay_out(kernel, tree)
    entries = sorted(tree.rglob("*"))
    programs.age(entries)
    names = "".join(f"{path.relative_to(tree)}\n" for path in entries)
    words = ["cpio", "--create", "--format=newc", "--owner=+0:+0", "--reproducible", "--quiet"]
    target.write_bytes(gzip.compress(programs.output(words, tree, names.encode()), mtime=0))


def lay_out(kernel: GuestKernel, tree: Path) -> None:
    """Copy the guest's files into a directory. They belong to this user there; the archive makes root their owner.

    Raises:
        AtollError: `image.kernel`: the kernel has no suitable modules; `image.failed`: a program failed.
    """
    for name in _DIRECTORIES:
        (tree / name).mkdir(parents=True)
    for place, path in parts().items():
        made = tree / place
        made.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, made)
    for link, leads in _LINKS.items():
        (tree / link).parent.mkdir(parents=True, exist_ok=True)
        (tree / link).symlink_to(leads)
    for applet in programs.applets():
        if not (tree / "bin" / applet).exists():
            (tree / "bin" / applet).symlink_to("busybox")
    modules.copy(kernel.modules, modules.choose(kernel.modules), tree / "lib" / "modules" / kernel.version)
    programs.run(["busybox", "depmod", "-b", str(tree), kernel.version])
    _permit(tree)


def _permit(tree: Path) -> None:
    """Set the modes of the files, so that they depend neither on the installation of this package nor on the umask."""
    for path in tree.rglob("*"):
        if path.is_symlink():
            continue
        if path.is_dir():
            path.chmod(0o700 if str(path.relative_to(tree)) in _SECRET else 0o755)
        else:
            with path.open("rb") as file:
                runs = file.read(4).startswith((b"#!", b"\x7fELF"))
            path.chmod(0o755 if runs else 0o644)

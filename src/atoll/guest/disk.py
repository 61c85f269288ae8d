"""The disk: one FAT file system without partitions, which the BIOS boots."""

from __future__ import annotations

import shutil
from pathlib import Path

from atoll.guest import programs

LABEL = "ATOLL-GUEST"
"""By which the guest finds its disk, and mounts it at /disk."""

CONSOLES = "console=tty0 console=ttyS0,115200 quiet"
"""The kernel's last words go to both: to VNC, and to the serial console and Nova's console log."""

QUICK = "cryptomgr.notests nokaslr mitigations=off no_timer_check scsi_mod.scan=sync"
"""Left to itself, the kernel tests its ciphers for more than half of its time to boot, and moves itself about. A guest that only says its
name needs no mitigations either, which cost time under TCG. The test of the timer fails on machines that are too busy for it. The last word
has disks found before their module is said to be loaded."""

CONFIGURATION = f"""\
DEFAULT atoll
PROMPT 0
LABEL atoll
  KERNEL /vmlinuz
  INITRD /initrd
  APPEND {CONSOLES} {QUICK}
"""
"""Of syslinux."""

SPARE_BYTES = 4 * 2**20
"""What guests may write to their disk."""

_MIB = 2**20


def write(kernel: Path, initramfs: Path, target: Path) -> None:
    """Write a disk.

    Args:
        kernel: vmlinuz.
        initramfs: what goes with it.
        target: the file.

    Raises:
        AtollError: `image.failed`.
    """
    work = target.parent
    files = {"vmlinuz": work / "vmlinuz", "initrd": work / "initrd", "syslinux.cfg": work / "syslinux.cfg"}
    shutil.copyfile(kernel, files["vmlinuz"])
    if initramfs != files["initrd"]:
        shutil.copyfile(initramfs, files["initrd"])
    files["syslinux.cfg"].write_text(CONFIGURATION, encoding="utf-8")
    programs.age(files.values())
    size = mebibytes(sum(path.stat().st_size for path in files.values()))
    with target.open("wb") as file:
        file.truncate(size * _MIB)
    # A cylinder of 64 heads and 32 sectors is one MiB. The media descriptor is a hard disk's: with any other, Glance takes the
    # boot sector for a partition table, a broken one.
    geometry = ["-t", str(size), "-h", "64", "-s", "32", "-c", "8", "-m", "0xf8", "-N", "41544f4c"]
    programs.run(["mformat", "-i", str(target), *geometry, "-v", LABEL, "::"])
    programs.run(["mcopy", "-m", "-i", str(target), *map(str, files.values()), "::"])
    programs.run(["syslinux", "--install", str(target)])


def mebibytes(content: int) -> int:
    """The size of a disk, in MiB, for files of so many bytes in all."""
    return -(-(content + SPARE_BYTES) // _MIB)

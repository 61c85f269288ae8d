"""The guest's disk: one FAT file system without partitions, which the BIOS boots."""

from __future__ import annotations

import shutil
from pathlib import Path

from atoll.guest import programs

LABEL = "ATOLL-GUEST"
"""The label of the file system, by which the guest finds its disk to mount it at /disk."""

CONSOLES = "console=tty0 console=ttyS0,115200 quiet"
"""Kernel options for the consoles: the VNC screen, and the serial port, which is also Nova's console log."""

QUICK = "cryptomgr.notests nokaslr mitigations=off no_timer_check scsi_mod.scan=sync"
"""Kernel options that shorten the boot: no self-tests of ciphers (more than half of the boot time), no address randomisation, no
mitigations (slow under TCG), no test of the timer (it fails on a busy machine). With the last option, loading a module waits until its
disks are found."""

CONFIGURATION = f"""\
DEFAULT atoll
PROMPT 0
LABEL atoll
  KERNEL /vmlinuz
  INITRD /initrd
  APPEND {CONSOLES} {QUICK}
"""
"""The configuration of syslinux."""

SPARE_BYTES = 4 * 2**20
"""Bytes of free space on the disk, which the guest can write to."""

_MIB = 2**20


def write(kernel: Path, initramfs: Path, target: Path) -> None:
    """Write the file of a disk.

    Args:
        kernel: file of the kernel.
        initramfs: file of the initramfs.
        target: the file to write.

    Raises:
        AtollError: `image.failed`: a program failed.
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
    # A cylinder of 64 heads and 32 sectors is one MiB. The media descriptor must be that of a hard disk: with any other one, Glance
    # mistakes the boot sector for a damaged partition table.
    geometry = ["-t", str(size), "-h", "64", "-s", "32", "-c", "8", "-m", "0xf8", "-N", "41544f4c"]
    programs.run(["mformat", "-i", str(target), *geometry, "-v", LABEL, "::"])
    programs.run(["mcopy", "-m", "-i", str(target), *map(str, files.values()), "::"])
    programs.run(["syslinux", "--install", str(target)])


def mebibytes(content: int) -> int:
    """Return the size, in MiB, of a disk for files of `content` bytes altogether."""
    return -(-(content + SPARE_BYTES) // _MIB)

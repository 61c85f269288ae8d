"""The guest image: one small file that boots in seconds and names itself, made of Debian packages without root and, mostly, offline.

It is a raw disk without partitions: a FAT file system that the BIOS boots with syslinux, in it a kernel of Debian's and an initramfs, in
that busybox, the modules of virtual machines, dropbear and dhcpcd if this machine has them, and the scripts of `root/`, which are copied as
they stand.
"""

from atoll.guest.image import FORMAT, LEAST_MIB, Built, build
from atoll.guest.kernel import Given

__all__ = ["FORMAT", "LEAST_MIB", "Built", "Given", "build"]

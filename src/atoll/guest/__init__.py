"""The guest image: one small file that boots in seconds and shows its name, built from Debian packages without root and mostly offline.

The image is a raw disk without partitions: a FAT file system that the BIOS boots with syslinux. It holds a Debian kernel and an initramfs.
The initramfs holds busybox, the modules for virtual machines, dropbear and dhcpcd if this machine has them, and the scripts of `root/`.
"""

from atoll.guest.image import FORMAT, LEAST_MIB, Built, build
from atoll.guest.kernel import Given

__all__ = ["FORMAT", "LEAST_MIB", "Built", "Given", "build"]

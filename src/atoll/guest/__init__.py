"""The guest image: a small system that boots in seconds and shows its server's name on a web page.

The image is built without root, from this machine's Debian packages and mostly offline. It is a raw disk without partitions: a FAT file
system from which the BIOS boots with syslinux. The disk holds a Debian kernel and an initramfs. The initramfs holds busybox, the kernel
modules for virtual machines, the scripts of `root/`, and dropbear and dhcpcd if this machine has them.
"""

from atoll.guest.image import FORMAT, LEAST_MIB, Built, build
from atoll.guest.kernel import Given

__all__ = ["FORMAT", "LEAST_MIB", "Built", "Given", "build"]

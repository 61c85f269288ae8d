"""Switches off the checksum offload of interfaces that a switch in user space reads.

Open vSwitch's data path `netdev` reads an interface's packets as the kernel passes them on. If the kernel leaves checksums and segmentation
to the interface, the switch forwards wrong checksums and drops packets that exceed the MTU.
"""

from __future__ import annotations

import errno
import os


def send_whole_packets(interface: str) -> None:
    """Make the kernel compute checksums and segment packets for an interface of this network namespace.

    Switching off checksum offload suffices, because the kernel then segments in software too.

    Args:
        interface: the name of the interface.

    Raises:
        OSError: the interface does not exist (ENODEV), or its offload cannot be switched off (EOPNOTSUPP).
    """
    from pyroute2.ethtool.ioctl import IoctlEthtool, NoSuchDevice, NotSupportedError

    ethtool = IoctlEthtool(interface)
    try:
        ethtool.set_offload_flag("tx-checksumming", 0)
    except (NoSuchDevice, NotSupportedError) as error:
        code = errno.ENODEV if isinstance(error, NoSuchDevice) else errno.EOPNOTSUPP
        raise OSError(code, os.strerror(code), interface) from error
    finally:
        ethtool.close()

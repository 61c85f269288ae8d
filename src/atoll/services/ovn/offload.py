"""Interfaces that the switch in user space reads: their packets must be as they are on a wire."""

from __future__ import annotations

import fcntl
import socket
import struct
from array import array

_SIOCETHTOOL, _ETHTOOL_STXCSUM = 0x8946, 0x17  # linux/sockios.h, linux/ethtool.h
_COMMAND = struct.Struct("@II")
_REQUEST = struct.Struct("@16sP")
_REQUEST_SIZE = 40
"""Of `struct ifreq`."""


def send_whole_packets(interface: str) -> None:
    """Have this network's end of a pair send packets with their checksums, and none larger than the MTU.

    Without the former the kernel does not do the latter either. A switch that reads raw packets (Open vSwitch's `netdev`) passes on wrong
    checksums, and drops what is too large.

    Args:
        interface: its name.

    Raises:
        OSError: it is not there, or can't do without.
    """
    command = array("B", _COMMAND.pack(_ETHTOOL_STXCSUM, 0))
    request = _REQUEST.pack(interface.encode(), command.buffer_info()[0]).ljust(_REQUEST_SIZE, b"\0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCETHTOOL, request)

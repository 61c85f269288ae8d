"""How a process enters the network of a site: what both the runtime and the WAN need of Linux for that."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
_CAPABILITY_VERSION = 0x20080522


@dataclass(frozen=True)
class Namespace:
    """The network of one site, as paths that can be opened while the WAN lives.

    Attributes:
        network: path of the network namespace.
        user: path of the user namespace that owns it; None if root made it.
    """

    network: str
    user: str | None = None

    def enter(self) -> None:
        """Move the calling thread into this network; what it opens from now on belongs to the site.

        With a user namespace this works only in a process with one thread, moves that for good, and leaves it without capabilities.

        Raises:
            OSError: the WAN has ended, or this user may not enter.
        """
        if self.user is not None and not same(self.user, "/proc/self/ns/user"):
            set_namespace(self.user, CLONE_NEWUSER)
        set_namespace(self.network, CLONE_NEWNET)
        if self.user is not None:
            drop_capabilities()


def same(left: str, right: str) -> bool:
    """True if two paths lead to one namespace."""
    return os.path.samestat(os.stat(left), os.stat(right))  # noqa: PTH116 - no pathlib in a fork server


def set_namespace(path: str, kind: int) -> None:
    """Move this thread into a namespace.

    Raises:
        OSError: it does not exist, or this user may not.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("setns", descriptor, kind)
    finally:
        os.close(descriptor)


def unshare(kind: int) -> None:
    """Move this thread (for a user namespace: this process) into a new namespace.

    Raises:
        OSError: this user may not.
    """
    _call("unshare", kind)


def drop_capabilities() -> None:
    """Give up all capabilities: who joins a user namespace has all of them there, until the next `exec`."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    _call("capset", header, (ctypes.c_uint32 * 6)())


def _call(name: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")

"""Linux namespaces for the runtime and the WAN: enter the network of a site, and use private mounts and host names."""

from __future__ import annotations

import ctypes
import os
import socket
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
_MS_NOSUID_NODEV_NOEXEC = 0x2 | 0x4 | 0x8
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_PRIVATE = 0x40000
_CAPABILITY_VERSION = 0x20080522


@dataclass(frozen=True)
class Namespace:
    """The network of one site, as paths that exist while the WAN runs.

    Attributes:
        network: path of the network namespace.
        user: path of the user namespace that owns it; `None` if root created it.
    """

    network: str
    user: str | None = None

    def enter(self) -> None:
        """Move the calling thread into this network; sockets that it opens from now on belong to the site.

        With a user namespace, the process must have only one thread; it cannot leave the network again, and loses its capabilities.

        Raises:
            OSError: the WAN has ended, or this user may not enter the network.
        """
        if self.user is not None and not same(self.user, "/proc/self/ns/user"):
            set_namespace(self.user, CLONE_NEWUSER)
        set_namespace(self.network, CLONE_NEWNET)
        if self.user is not None:
            drop_capabilities()


def same(left: str, right: str) -> bool:
    """Return whether two paths refer to the same namespace."""
    return os.path.samestat(os.stat(left), os.stat(right))


def set_namespace(path: str, kind: int) -> None:
    """Move the calling thread into a namespace.

    Raises:
        OSError: the namespace does not exist, or this user may not enter it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("setns", descriptor, kind)
    finally:
        os.close(descriptor)


def unshare(kind: int) -> None:
    """Move the calling thread (for a user namespace, the process) into a new namespace.

    Raises:
        OSError: the kernel does not allow this user to do so.
    """
    _call("unshare", kind)


def appear_as(user: int) -> None:
    """Move this process, which must have one thread, into a user namespace in which it appears as another user without capabilities.

    Its access to files stays that of the user that it was. Some programs refuse to run as root, or as a user who appears to be root.

    Args:
        user: the id of the user and of the group to appear as.

    Raises:
        OSError: the kernel does not allow this user to do so.
    """
    identity = os.geteuid(), os.getegid()
    unshare(CLONE_NEWUSER)
    for name, text in (("uid_map", f"{user} {identity[0]} 1"), ("setgroups", "deny"), ("gid_map", f"{user} {identity[1]} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    drop_capabilities()


def drop_capabilities() -> None:
    """Drop all capabilities: a process that joins a user namespace has all of them there, until the next `exec`."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    _call("capset", header, (ctypes.c_uint32 * 6)())


def _call(name: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def private_mounts(bindings: Mapping[str, str]) -> None:
    """Move this process, which must have one thread, into a mount namespace of its own, where directories replace others.

    Args:
        bindings: the directory to show, by the path at which it appears. Both are created if they do not exist.

    Raises:
        OSError: the kernel does not allow this user to do so.
    """
    unshare(CLONE_NEWNS)
    _mount("none", "/", _MS_REC | _MS_PRIVATE)
    for target, source in bindings.items():
        os.makedirs(target, exist_ok=True)
        os.makedirs(source, mode=0o700, exist_ok=True)
        _mount(source, target, _MS_BIND)


def show_only(directories: Iterable[str]) -> None:
    """Let other users reach some directories, and nothing beside them, in this process's own mount namespace.

    If a parent directory is closed to other users, an empty directory that leads to these alone takes its place. The modes of the
    directories themselves stay. This process must be in a mount namespace of its own (`private_mounts`).

    Args:
        directories: absolute paths of existing directories.

    Raises:
        OSError: the kernel does not allow this user to do so.
    """
    opened = {path: os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in map(os.path.realpath, directories)}
    try:
        for closed in {found for path in opened if (found := _first_closed(path)) is not None}:
            _call("mount", b"none", closed.encode(), b"tmpfs", ctypes.c_ulong(_MS_NOSUID_NODEV_NOEXEC), b"mode=0711,size=1m")
        for path, descriptor in opened.items():
            if not os.path.exists(path):
                _make_way(path)
                _mount(f"/proc/self/fd/{descriptor}", path, _MS_BIND | _MS_REC)
    finally:
        for descriptor in opened.values():
            os.close(descriptor)


def _first_closed(path: str) -> str | None:
    """Return the first directory on the way to a path that other users can't pass; `None` if they can pass all."""
    parts = path.strip("/").split("/")[:-1]
    way = ["/" + "/".join(parts[: count + 1]) for count in range(len(parts))]
    return next((each for each in way if not os.stat(each).st_mode & stat.S_IXOTH), None)


def _make_way(path: str) -> None:
    before = os.umask(0o066)
    try:
        os.makedirs(path, exist_ok=True)
    finally:
        os.umask(before)


def private_hostname(name: str) -> None:
    """Give this process, which must have one thread, and its children a host name of their own.

    Raises:
        OSError: the kernel does not allow this user to do so.
    """
    unshare(CLONE_NEWUTS)
    socket.sethostname(name)


def _mount(source: str, target: str, flags: int) -> None:
    _call("mount", source.encode(), target.encode(), None, ctypes.c_ulong(flags), None)

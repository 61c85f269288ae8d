"""Network namespaces: made, entered, and held by descriptors alone, so that nothing of them outlives the processes that use them."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from atoll.errors import AtollError
from atoll.namespaces import CLONE_NEWNET, CLONE_NEWUSER, set_namespace, unshare

_SYSCTLS = "user.max_user_namespaces=10000, kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0"
"""The options of different kernels and distributions that let ordinary users make namespaces."""

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1

T = TypeVar("T")


class _Stray(threading.Thread, Generic[T]):
    """A thread that may go astray in another namespace, as it ends afterwards."""

    def __init__(self, work: Callable[[], T]) -> None:
        super().__init__(name="astray")
        self._work = work
        self.result: T
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = self._work()
        except BaseException as error:
            self.error = error


def astray(work: Callable[[], T]) -> T:
    """Do something in a thread of its own, whatever namespace that ends in.

    Raises:
        Whatever `work` raises.
    """
    thread = _Stray(work)
    thread.start()
    thread.join()
    if thread.error is not None:
        raise thread.error
    return thread.result


def within(network: int, work: Callable[[], T]) -> T:
    """Do something in a network namespace: what it opens there stays there.

    Args:
        network: a descriptor of the namespace.
        work: runs in a thread of its own.

    Raises:
        Whatever `work` raises, and OSError if the namespace can't be entered.
    """

    def work_there() -> T:
        set_namespace(f"/proc/self/fd/{network}", CLONE_NEWNET)
        return work()

    return astray(work_there)


def new_network() -> int:
    """A descriptor of a new network namespace, which lives while it or a process in it does.

    Raises:
        OSError: this user may not.
    """

    def make() -> int:
        unshare(CLONE_NEWNET)
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    return astray(make)


def gain_networks() -> bool:
    """Make sure that this process may make network namespaces: if not as it is, then inside a user namespace of its own.

    The process must have only one thread. Inside, it is still the same user.

    Returns:
        True if it now is in a user namespace of its own.

    Raises:
        AtollError: `wan.unavailable`: the kernel allows neither.
    """
    if _may_make_networks():
        return False
    user, group = os.geteuid(), os.getegid()
    try:
        unshare(CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
        os.close(new_network())
    except OSError as error:
        hint = f"run as root, or allow user namespaces by sysctl, as far as this kernel has them: {_SYSCTLS}"
        why = "no more user namespaces are allowed" if error.errno == errno.ENOSPC else error.strerror or error
        raise AtollError("wan.unavailable", f"no network namespaces for this user: {why}", hint) from error
    return True


def _may_make_networks() -> bool:
    """Tried in a child: a thread that has just ended may still count, and then no user namespace could be made.

    Root may lack the capability to make namespaces, or that to configure interfaces in them; with a user namespace it has both.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            unshare(CLONE_NEWNET)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
                fcntl.ioctl(asking, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", _IFF_UP))
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def set_sysctl(name: str, value: str) -> None:
    """Set an option of the network namespace that the calling thread is in; the kernel may lack it.

    Args:
        name: path below /proc/sys.
        value: the text to write.
    """
    path = Path("/proc/sys") / name
    if path.exists():
        path.write_text(value, encoding="ascii")

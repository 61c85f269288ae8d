"""Network namespaces that only open descriptors keep alive, so that none outlives the processes that use it."""

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
"""The sysctl settings by which several kernels and distributions allow ordinary users to create namespaces."""

_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1

T = TypeVar("T")


class _ThrowawayThread(threading.Thread, Generic[T]):
    """A thread that runs one function and then ends, because the function may leave the thread in another namespace."""

    def __init__(self, work: Callable[[], T]) -> None:
        super().__init__(name="throwaway")
        self._work = work
        self.result: T
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = self._work()
        except BaseException as error:
            self.error = error


def in_throwaway_thread(work: Callable[[], T]) -> T:
    """Run a function, which may enter other namespaces, in a thread of its own, and return its result.

    Raises:
        Whatever `work` raises.
    """
    thread = _ThrowawayThread(work)
    thread.start()
    thread.join()
    if thread.error is not None:
        raise thread.error
    return thread.result


def within(network: int, work: Callable[[], T]) -> T:
    """Run a function in a network namespace, and return its result; sockets and devices that it opens stay in that namespace.

    Args:
        network: descriptor of the namespace.
        work: called in a thread of its own.

    Raises:
        Whatever `work` raises, and OSError if the namespace can't be entered.
    """

    def work_there() -> T:
        set_namespace(f"/proc/self/fd/{network}", CLONE_NEWNET)
        return work()

    return in_throwaway_thread(work_there)


def new_network() -> int:
    """Return the descriptor of a new network namespace, which lasts while the descriptor is open or a process is in it.

    Raises:
        OSError: the kernel does not allow this user to create network namespaces.
    """

    def make() -> int:
        unshare(CLONE_NEWNET)
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    return in_throwaway_thread(make)


def gain_networks() -> bool:
    """Enable this process to create network namespaces, if necessary in a user namespace of its own.

    The process must have one thread. It keeps its user id.

    Returns:
        Whether the process is now in a user namespace of its own.

    Raises:
        AtollError: `wan.unavailable`: the kernel allows neither network namespaces nor a user namespace.
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
        raise AtollError("wan.unavailable", f"this user can't create network namespaces: {why}", hint) from error
    return True


def _may_make_networks() -> bool:
    """Return whether this process may create and configure network namespaces.

    A child process tries both. A thread in this process would not do: even after its end the kernel might still count it, and a process
    with several threads can't enter a user namespace. Root may lack the capability to create namespaces, or to configure interfaces in
    them; in a user namespace it has both.
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
    """Set an option of the network namespace of the calling thread, if the kernel has the option.

    Args:
        name: path below /proc/sys.
        value: the text to write.
    """
    path = Path("/proc/sys") / name
    if path.exists():
        path.write_text(value, encoding="ascii")

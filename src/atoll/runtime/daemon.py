"""The program `python -m atoll.runtime.daemon DIR`: the one supervisor of a state directory.

The program continues in the background. It prints one line of JSON, which says that the supervisor answers at its control socket, or why it
can't.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from atoll.control.messages import encode, failure
from atoll.errors import AtollError
from atoll.runtime import parents, this_process
from atoll.runtime.client import SOCKET
from atoll.runtime.server import SupervisorServer
from atoll.runtime.supervisor import Supervisor

LOCK = "supervisor.lock"
LOG = "supervisor.log"
_LOCK_WAIT_S = 60.0


def daemonize(directory: Path) -> NoReturn:
    """Fork the supervisor, wait until it answers, report that on standard output, and exit."""
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            died = AtollError("runtime.unreachable", f"the supervisor died, see {directory / LOG}")
            answer = pipe.read() or failure(died)
        os.write(1, answer)
        os._exit(0 if b'"ok"' in answer else 1)
    os.close(reading)
    code = 1
    try:
        _detach(directory)
        lock = take_lock(directory)
        asyncio.run(serve(directory, lock, writing))
        code = 0
    except AtollError as error:
        os.write(writing, failure(error))
    except OSError as error:
        logging.exception("the supervisor ends")
        with suppress(OSError):  # the descriptor is closed already if the supervisor has answered
            os.write(writing, failure(_unusable(directory, error)))
    except BaseException:
        logging.exception("the supervisor ends")
    this_process.flush()
    os._exit(code)


def _unusable(directory: Path, error: OSError) -> AtollError:
    code = "state.space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "state.unusable"
    return AtollError(code, f"{directory} cannot be used: {error.strerror}")


def take_lock(directory: Path) -> int:
    """Wait until an earlier supervisor of this directory and all its processes have ended, and return the descriptor of the lock.

    Raises:
        AtollError: `state.unusable`: a process still runs after 60 s.
        OSError: the lock file cannot be created.
    """
    lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    # The lock belongs to the open file, which all processes of a supervisor share. After a `kill -9` of the supervisor, the kernel
    # kills them too; ports and databases are free only when the last of them has ended.
    signal.signal(signal.SIGALRM, _timed_out)
    signal.setitimer(signal.ITIMER_REAL, _LOCK_WAIT_S)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
    except TimeoutError:
        message = f"an earlier supervisor of {directory}, or a process of it, is still running but does not answer"
        raise AtollError("state.unusable", message, f"find the process that has {directory / LOCK} open (`fuser`), and end it") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    return lock


def _timed_out(_signum: int, _frame: object) -> NoReturn:
    raise TimeoutError


async def serve(directory: Path, lock: int, told: int) -> None:
    """Run the supervisor until a client or a signal ends it.

    Args:
        directory: the state directory.
        lock: descriptor of the lock file.
        told: descriptor to which a report is written when the control socket is open, and which is closed then.
    """
    parents.adopt_orphans()
    supervisor = Supervisor(directory, lock)
    server = SupervisorServer(supervisor, directory / SOCKET)
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, server.shutdown.set)
    await server.listen()
    os.write(told, encode({"ok": os.getpid()}))
    os.close(told)
    await server.shutdown.wait()
    logging.info("ending")
    await supervisor.end()
    server.close()
    logging.info("ended")


def _detach(directory: Path) -> None:
    """Detach from the caller's session, working directory, files and umask."""
    os.setsid()
    os.chdir("/")
    os.umask(0o077)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    this_process.raise_file_limit()
    null = os.open(os.devnull, os.O_RDWR)
    log = os.open(directory / LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(log)
    this_process.set_title(f"atoll: supervisor {directory}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)


def main() -> NoReturn:
    """Run the supervisor of the directory in `argv[1]`, as a daemon."""
    daemonize(Path(sys.argv[1]))


if __name__ == "__main__":
    main()

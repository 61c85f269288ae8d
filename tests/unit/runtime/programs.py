"""Entries of the processes in the tests. Fork servers import this module, so it imports only the standard library."""

# ruff: noqa: T201 - the output is the log

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from atoll.runtime.child import Child

preloaded = []


def preload() -> None:
    preloaded.append(os.getpid())


def bad_preload() -> None:
    raise ValueError("nothing to import here")


def threaded_preload() -> None:
    threading.Thread(target=time.sleep, args=(60,), name="sleeper", daemon=True).start()


def service(child: Child) -> None:
    child.ready()
    child.wait()
    print("stopped in order", flush=True)


def hook(child: Child) -> None:
    print(f"hooked {child.name}", flush=True)


def greeter(child: Child) -> None:
    """Answer each connection with the pid of this process and the first preloaded pid."""
    (listener,) = child.sockets
    listener.settimeout(None)

    def serve() -> None:
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(f"{os.getpid()} {preloaded}\n".encode())

    threading.Thread(target=serve, daemon=True).start()
    child.ready()
    child.wait()


def write(child: Child) -> None:
    """Append a line to a file; for a job."""
    with Path(child.arguments["file"]).open("a") as file:
        file.write(child.name + "\n")


def fail(child: Child) -> None:
    raise RuntimeError(f"{child.name} cannot work")


def stubborn(child: Child) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child.ready()
    while True:
        time.sleep(60)


def patient(child: Child) -> None:
    """Report progress, then serve."""
    child.starting()
    service(child)


def hang(child: Child) -> None:
    waiting_for_godot()


def waiting_for_godot() -> None:
    time.sleep(60)


def crash_once(child: Child) -> None:
    """Become ready at the second attempt."""
    marker = Path(child.arguments["file"])
    if not marker.exists():
        marker.touch()
        sys.exit(3)
    service(child)


def report(child: Child) -> None:
    """Write the properties of this process to a file; for a job."""
    descriptors = {}
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            descriptors[link.name] = link.readlink()
    status = Path("/proc/self/status").read_text()
    lines = [
        f"cwd {Path.cwd()}",
        f"ppid {os.getppid()}",
        f"sid {os.getsid(0) == os.getpid()}",
        f"blocked {next(line for line in status.splitlines() if line.startswith('SigBlk'))}",
        f"title {Path('/proc/self/cmdline').read_text().rstrip(chr(0))}",
        f"arena {os.environ.get('MALLOC_ARENA_MAX')}",
        f"stray {os.environ.get('OS_CLOUD')}",
        *(f"fd {name} {target}" for name, target in sorted(descriptors.items())),
    ]
    Path(child.arguments["file"]).write_text("\n".join(lines) + "\n")


def parent_of_others(child: Child) -> None:
    """Start a program, and become ready."""
    program = subprocess.Popen(["sleep", "60"])
    Path(child.arguments["file"]).write_text(str(program.pid))
    child.ready()
    child.wait()


def callbacks(child: Child) -> None:
    child.on_stop(lambda: print("first", flush=True))
    child.on_stop(lambda: 1 / 0)
    child.on_stop(lambda: print("last", flush=True))
    child.ready()
    child.wait()


def slow_job(child: Child) -> None:
    """Clean up when the process is stopped; for a job."""
    file = Path(child.arguments["file"])
    file.touch()
    try:
        time.sleep(60)
    finally:
        file.unlink()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

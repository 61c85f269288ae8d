"""A Redis server for the experiment, on a Unix socket, with the durability that docs/stores.md demands."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import redis

from atoll.bench.waiting import wait_until
from atoll.errors import AtollError

_START_S = 20.0


def check_requirements() -> str:
    """Return the path of the server program.

    Raises:
        AtollError: `bench.requirement`: neither Redis nor Valkey is installed.
    """
    if found := shutil.which("redis-server") or shutil.which("valkey-server"):
        return found
    hint = "`sudo apt-get install --no-install-recommends redis-server`; its service need not be started"
    raise AtollError("bench.requirement", "the comparison needs redis-server from Debian's packages", hint)


@contextlib.contextmanager
def running(directory: Path) -> Iterator[Path]:
    """Run a server and yield its Unix socket.

    Args:
        directory: the directory for the server's files; it is created.

    Raises:
        AtollError: `bench.requirement`: neither Redis nor Valkey is installed; `bench.failed`: the server did not start.
    """
    directory.mkdir()
    socket = directory / "redis.sock"
    files = ["--dir", str(directory), "--logfile", str(directory / "redis.log"), "--save", ""]
    durable = ["--appendonly", "yes", "--appendfsync", "always"]
    process = subprocess.Popen([check_requirements(), "--port", "0", "--unixsocket", str(socket), *files, *durable])
    try:
        client = redis.Redis(unix_socket_path=str(socket))
        wait_until(lambda: _answers(client), "redis-server answers", _START_S, 0.05)
        client.close()
        yield socket
    finally:
        process.kill()
        process.wait()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False

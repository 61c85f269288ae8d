"""A Redis server for tests: on a Unix socket, with an append-only file that it flushes at each commit."""

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")


class RedisServer:
    """One server and its files."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory, self.options = directory, options
        self.socket = directory / "redis.sock"
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        if PROGRAM is None:
            pytest.skip("redis-server is missing: scripts/packages redis-server")
        settings = ["--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.directory), "--save", "", "--loglevel", "warning"]
        durable = ["--appendonly", "yes", "--appendfsync", "always"]
        self.process = subprocess.Popen([PROGRAM, *settings, *durable, *self.options], stdout=subprocess.DEVNULL)
        for _ in range(500):
            with contextlib.suppress(redis.ConnectionError):
                if self.client().ping():
                    return
            time.sleep(0.02)
        raise AssertionError("redis-server did not start")

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket))

    def kill(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def lose_tail(self, log: str, last: int, *more: tuple[str, dict[Any, Any]]) -> None:
        """Make the log end at `last`, as after a failover to a replica that was behind, and then go on with `more` (id, fields) at once."""
        key = f"{{{log}}}:log"
        kept = self.client().xrange(key, max=f"{last}-0")
        with self.client().pipeline() as pipeline:
            pipeline.delete(key)
            for name, fields in (*kept, *more):
                pipeline.xadd(key, fields, name)
            pipeline.execute()

    def url(self, replica: Path, log: str, site: str = "paris", **more: object) -> str:
        parameters = {"socket": self.socket, "replica": replica, "log": log, "cloud": "demo", "site": site, **more}
        return "redis:///0?" + "&".join(f"{name}={value}" for name, value in parameters.items())


@contextlib.contextmanager
def running(directory: Path, *options: str) -> Iterator[RedisServer]:
    server = RedisServer(directory, *options)
    server.start()
    try:
        yield server
    finally:
        server.kill()

"""The guest image in QEMU without OpenStack, on QEMU's user network."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from deployment import until

PATIENCE_S = 300.0
"""Seconds to wait for any condition, without KVM on a busy machine."""

QEMU = "qemu-system-x86_64"

UUID = "6e3e0c1e-7d5c-4a9c-8d59-1fd6e5e60aa1"
MARKS = '#!/bin/sh\necho "found: $(cat /disk/mark 2>/dev/null)"\necho "made by $(hostname)" >/disk/mark\n'
"""User data that show the mark of an earlier boot, and leave one."""


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def meta_data(name: str, **more: object) -> str:
    return json.dumps({"uuid": UUID, "name": name, "hostname": f"{name}.novalocal", **more})


def drive(directory: Path, **files: str) -> Path:
    """Make a config drive like Nova's."""
    latest = directory / "files" / "openstack" / "latest"
    latest.mkdir(parents=True)
    for name, text in files.items():
        (latest / name).write_text(text)
    made = directory / "drive.iso"
    (directory / "files" / "openstack" / "latest" / "meta_data").rename(latest / "meta_data.json")
    subprocess.run(["genisoimage", "-quiet", "-V", "config-2", "-r", "-J", "-o", str(made), str(directory / "files")], check=True)
    return made


class Emulated:
    """A running machine, which ends with the context.

    Args:
        directory: its own directory, which keeps the disk.
        image: the image that is copied to its disk at the first start.
        options: further options of QEMU.
        network: further options of QEMU's user network.
        bus: the bus of the disk.
    """

    def __init__(self, directory: Path, image: Path, *options: str, network: str = "", bus: str = "virtio", memory: int = 128) -> None:
        directory.mkdir(exist_ok=True)
        disk, self._monitor, self._console = directory / "disk.img", directory / "monitor", directory / "console"
        if not disk.exists():
            shutil.copyfile(image, disk)
        self.web, self.ssh = free_port(), free_port()
        forwards = f"hostfwd=tcp:127.0.0.1:{self.web}-:80,hostfwd=tcp:127.0.0.1:{self.ssh}-:22"
        command = [
            QEMU, "-accel", "tcg", "-m", str(memory), "-display", "none", "-serial", f"file:{self._console}",
            "-qmp", f"unix:{self._monitor},server,nowait", "-drive", f"file={disk},format=raw,if={bus}",
            "-netdev", f"user,id=first,restrict=on,{forwards}{network}", "-device", "virtio-net-pci,netdev=first", *options,
        ]  # fmt: skip
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def __enter__(self) -> Emulated:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def console(self) -> str:
        """Return the output of the console."""
        return self._console.read_text(errors="replace").replace("\r", "") if self._console.exists() else ""

    def await_console(self, pattern: str) -> re.Match[str]:
        return until(lambda: re.search(pattern, self.console()), f"{pattern} on the console", PATIENCE_S)

    def page(self) -> str:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.web}/", timeout=5) as answer:
            return str(answer.read().decode())
        return ""

    def await_page(self, *words: str) -> str:
        return until(lambda: text if all(word in (text := self.page()) for word in words) else "", f"a page with {words}", PATIENCE_S)

    def order(self, execute: str, **arguments: Any) -> None:
        """Execute a QMP command."""
        ask(self._monitor, execute, **arguments)

    def await_end(self) -> None:
        """Wait until the machine is shut down."""
        self._process.wait(PATIENCE_S)


def ask(monitor: Path, execute: str, **arguments: Any) -> Any:
    """Execute a QMP command over a new connection to the socket of QEMU's monitor, and return the answer."""
    with closing(socket.socket(socket.AF_UNIX)) as connection:
        connection.connect(str(monitor))
        lines = connection.makefile("rw")
        lines.readline()
        for order in ({"execute": "qmp_capabilities"}, {"execute": execute, "arguments": arguments}):
            lines.write(json.dumps(order) + "\n")
            lines.flush()
            while "event" in (answer := json.loads(lines.readline())):
                pass
            assert "return" in answer, answer
    return answer["return"]


@contextmanager
def metadata_service(files: dict[str, str]) -> Iterator[str]:
    """Serve files as the metadata service does, and yield the options of QEMU's user network that make it reachable."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = files.get(self.path)
            self.send_response(404 if text is None else 200)
            self.end_headers()
            self.wfile.write((text or "").encode())

        def log_message(self, *_arguments: object) -> None:
            """Suppress the log of requests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        addresses = "net=169.254.169.0/24,host=169.254.169.2,dhcpstart=169.254.169.15"
        yield f",{addresses},guestfwd=tcp:169.254.169.254:80-cmd:busybox nc 127.0.0.1 {server.server_port}"
        server.shutdown()

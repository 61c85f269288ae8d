"""The guest image in a QEMU of its own, without OpenStack: QEMU's own network behind it, nothing but loopback in front."""

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
"""Seconds that anything may take: there is no KVM, and the machine may be busy."""

QEMU = "qemu-system-x86_64"


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Emulated:
    """A machine that runs; leaving the context ends it.

    Args:
        directory: its own; the disk stays there when it ends.
        image: what its disk is a copy of, the first time.
        options: more of QEMU's.
        network: more of QEMU's user network.
        bus: of the disk.
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
        """All that it has written."""
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
        """Give QEMU an order."""
        with closing(socket.socket(socket.AF_UNIX)) as monitor:
            monitor.connect(str(self._monitor))
            lines = monitor.makefile("rw")
            lines.readline()
            for order in ({"execute": "qmp_capabilities"}, {"execute": execute, "arguments": arguments}):
                lines.write(json.dumps(order) + "\n")
                lines.flush()
                while "event" in (answer := json.loads(lines.readline())):
                    pass
                assert "return" in answer, answer

    def await_end(self) -> None:
        """Wait until the machine has switched itself off."""
        self._process.wait(PATIENCE_S)


@contextmanager
def metadata_service(files: dict[str, str]) -> Iterator[str]:
    """What the metadata service would be; the options of QEMU's user network that put it where guests ask."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = files.get(self.path)
            self.send_response(404 if text is None else 200)
            self.end_headers()
            self.wfile.write((text or "").encode())

        def log_message(self, *_arguments: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        addresses = "net=169.254.169.0/24,host=169.254.169.2,dhcpstart=169.254.169.15"
        yield f",{addresses},guestfwd=tcp:169.254.169.254:80-cmd:busybox nc 127.0.0.1 {server.server_port}"
        server.shutdown()

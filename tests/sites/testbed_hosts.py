"""Hosts of a testbed made of network namespaces: each has an address on one bridge, and an SSH server with a key of its own.

They share the file system of the machine, so each site needs a directory of its own. A process holds the bridge and its network in a
namespace too, so that the machine's own network is not touched; `atoll` runs in it, as if on the user's machine.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from deployment import until

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"

_NETWORK = "10.99.0"
_SERVER = """
ListenAddress 0.0.0.0:22
HostKey {directory}/host
AuthorizedKeysFile {directory}/authorized
PidFile {directory}/pid
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
StrictModes no
Subsystem sftp internal-sftp
"""
_HOLD = [sys.executable, "-c", "import signal; print('ready', flush=True); signal.pause()"]


@dataclass
class NamespaceHosts:
    """Hosts in network namespaces.

    Attributes:
        directory: the directory of keys and logs.
        holder: the process in the network of the bridge.
        hosts: the process in the network of each host, by its name.
        servers: the SSH servers.
    """

    directory: Path
    holder: subprocess.Popen[str]
    hosts: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    servers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @classmethod
    def start(cls, directory: Path, *names: str) -> NamespaceHosts:
        """Start hosts with the addresses 10.99.0.1, .2 and so on."""
        made = cls(directory, _held())
        made._inside(made.holder, "ip link set lo up; ip link add sw type bridge; ip link set sw up; ip addr add 10.99.0.254/24 dev sw")
        _key(directory / "user")
        for number, name in enumerate(names, 1):
            made._add(name, number)
        return made

    @property
    def prefix(self) -> tuple[str, ...]:
        """The prefix of a command that runs in the network of the bridge."""
        return _entering(self.holder)

    def address(self, name: str) -> str:
        """Return the address of a host."""
        return f"{_NETWORK}.{list(self.hosts).index(name) + 1}"

    def configuration(self) -> dict[str, object]:
        """Return the configuration of EnOSlib's static provider, in which the role of each host is its name."""
        machines = [
            {"address": self.address(name), "alias": name, "roles": [name], "user": "root", "keyfile": str(self.directory / "user")}
            for name in self.hosts
        ]
        network = {"roles": ["wan"], "cidr": f"{_NETWORK}.0/24", "gateway": f"{_NETWORK}.254", "dns": f"{_NETWORK}.254"}
        return {"resources": {"machines": machines, "networks": [network]}}

    def run(self, name: str, *command: str) -> str:
        """Run a command in the network of a host, and return its output."""
        return subprocess.run([*_entering(self.hosts[name]), *command], capture_output=True, text=True, check=True).stdout

    def stop_server(self, name: str) -> None:
        """End the SSH server of a host, as if the host were off."""
        server = self.servers.pop(name)
        server.terminate()
        server.wait()

    def start_server(self, name: str) -> None:
        """Start the SSH server of a host."""
        directory = self.directory / name
        command = [*_entering(self.hosts[name]), SSHD, "-D", "-e", "-f", str(directory / "config")]
        with (directory / "log").open("ab") as log:
            self.servers[name] = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until(lambda: "listening on" in (directory / "log").read_text(), f"the SSH server of {name} listens", 60)

    def close(self) -> None:
        """End all processes, and with them the namespaces."""
        for name in list(self.servers):
            self.stop_server(name)
        for process in (*self.hosts.values(), self.holder):
            process.send_signal(signal.SIGKILL)
            process.communicate()  # also closes the pipe

    def _add(self, name: str, number: int) -> None:
        process = self.hosts[name] = _held()
        # The pair is made in the host's own namespace, which knows the other by the number of a process.
        pair = f"ip link add sw{number} type veth peer name eth0 netns {process.pid}; ip link set sw{number} master sw up"
        self._inside(self.holder, pair)
        self._inside(process, f"ip link set lo up; ip link set eth0 up; ip addr add {_NETWORK}.{number}/24 dev eth0")
        directory = self.directory / name
        directory.mkdir()
        _key(directory / "host")
        shutil.copyfile(self.directory / "user.pub", directory / "authorized")
        (directory / "config").write_text(_SERVER.format(directory=directory))
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self.start_server(name)

    def _inside(self, process: subprocess.Popen[str], script: str) -> None:
        subprocess.run([*_entering(process), "sh", "-ec", script], check=True)


def _held() -> subprocess.Popen[str]:
    """Start a process in a network namespace of its own."""
    process = subprocess.Popen(["unshare", "--net", *_HOLD], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def _entering(process: subprocess.Popen[str]) -> tuple[str, ...]:
    return ("nsenter", f"--net=/proc/{process.pid}/ns/net", "--")


def _key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)], check=True)


def wrapper(directory: Path) -> Path:
    """Write a program that starts the Atoll under test, as if it were installed on the hosts, and return its path."""
    path = directory / "atoll"
    source = Path(__file__).parents[2] / "src"
    lines = ["#!/bin/sh", f"export XDG_CACHE_HOME={os.environ.get('XDG_CACHE_HOME', str(Path.home() / '.cache'))} PYTHONPATH={source}"]
    path.write_text("\n".join([*lines, f'exec {sys.executable} -m atoll "$@"']) + "\n")
    path.chmod(0o755)
    return path

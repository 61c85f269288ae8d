"""Commands on a host over SSH, with the unmodified client of OpenSSH.

Secrets go through standard input, never onto a command line.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atoll.errors import AtollError

CONNECT_S = 15
"""Seconds to wait for a connection."""

_UNREACHABLE = 255
"""The exit code of ssh itself."""


@dataclass(frozen=True)
class RemoteHost:
    """A host, and the settings of SSH to reach it.

    Attributes:
        site: the name of the site on it.
        address: the address for SSH.
        user: the user for SSH; `None` means the client's own configuration.
        port: the port for SSH; `None` means the client's own configuration.
        keyfile: the path of the private key; `None` means the client's own configuration.
        options: further arguments of ssh, such as a jump host.
        known_hosts: the path of the file with the hosts' keys.
        strict: whether the host's key must be in that file already; otherwise the first key is added to it.
        sudo: whether commands need sudo to run as root.
    """

    site: str
    address: str
    user: str | None = None
    port: int | None = None
    keyfile: str | None = None
    options: Sequence[str] = ()
    known_hosts: str = ""
    strict: bool = False
    sudo: bool = False

    @property
    def label(self) -> str:
        """The host's name in messages."""
        return f"the host of {self.site} ({self.address})"

    def command(self, script: str) -> list[str]:
        """Return the command line of ssh that runs a shell script on the host as root."""
        first = "yes" if self.strict else "accept-new"
        # ssh uses the first value of an option, so these override those of EnOSlib, which accept any key.
        words = ["ssh", "-T", "-o", f"UserKnownHostsFile={self.known_hosts}", "-o", f"StrictHostKeyChecking={first}"]
        words += ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_S}", "-o", "ServerAliveInterval=15", "-o", "LogLevel=ERROR"]
        words += self.options
        if self.keyfile:
            words += ["-i", str(Path(self.keyfile).expanduser()), "-o", "IdentitiesOnly=yes"]
        if self.port:
            words += ["-p", str(self.port)]
        if self.user:
            words += ["-l", self.user]
        remote = ["sh", "-c", script]
        return [*words, "--", self.address, shlex.join(["sudo", "-n", *remote] if self.sudo else remote)]

    def run(self, script: str, *, text: str = "", data: bytes = b"", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a shell script on the host as root, and return its exit code and output.

        Args:
            script: the script; other users of the host can see it.
            text: the script's standard input.
            data: the same as bytes.
            check: whether an exit code other than 0 is an error.

        Raises:
            AtollError: `testbed.unreachable`: the host can't be reached; `testbed.failed`: the script failed, and `check` is true.
        """
        done = subprocess.run(self.command(script), input=data or text.encode(), capture_output=True, check=False)
        found = subprocess.CompletedProcess(
            script, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )
        if found.returncode == _UNREACHABLE:
            reason = _last(found.stderr) or "ssh gives no reason"
            hint = f"check the address, the user and the key: {shlex.join(self.command('true')[:-1])}"
            raise AtollError("testbed.unreachable", f"{self.label} can't be reached: {reason}", hint)
        if check and found.returncode != 0:
            raise self.failure(found)
        return found

    def failure(self, done: subprocess.CompletedProcess[str]) -> AtollError:
        """Return the error for a script that failed, with the error line of Atoll on the host, or else the last line of the output."""
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        reason = next(
            (line.removeprefix("error: ") for line in lines if line.startswith("error: ")), _last(done.stderr) or _last(done.stdout)
        )
        hint = next((line.removeprefix("hint: ") for line in lines if line.startswith("hint: ")), None)
        text = reason or f"a command ended with exit code {done.returncode}"
        return AtollError("testbed.failed", f"{self.label}: {text}", None if hint is None else f"on the host: {hint}")


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""

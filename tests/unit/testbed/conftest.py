"""A testbed without EnOSlib and SSH: `ssh` is a program that runs the command here, and EnOSlib's worker is replaced."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from atoll.testbed.host import RemoteHost

_SSH = """#!/bin/sh
# Runs the command of the last argument, unless the file `off` exists; notes all arguments.
printf '%s\\n' "$*" >>{directory}/ssh.log
if [ -e {directory}/off ]; then echo "ssh: connect to host: Connection refused" >&2; exit 255; fi
while [ $# -gt 1 ]; do shift; done
PATH={directory}/host:$PATH exec sh -c "$1"
"""


@pytest.fixture
def bench(tmp_path, monkeypatch) -> Path:
    """Return a directory with `ssh.log`, and `host/`, whose programs hide those of the machine from the host."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "host").mkdir()
    program = tmp_path / "bin" / "ssh"
    program.write_text(_SSH.format(directory=tmp_path))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin:{Path(sys.executable).parent}")
    return tmp_path


@pytest.fixture
def host(bench) -> RemoteHost:
    return RemoteHost("paris", "192.0.2.1", "root", known_hosts=str(bench / "known_hosts"))

"""EnOSlib's own environment, made on demand from a lock file: its dependencies, such as Ansible, conflict with those of OpenStack."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from atoll.errors import AtollError
from atoll.files import make_directory

LOCK = Path(__file__).with_name("enoslib.lock")

_STAMP = "complete"


def python(cache: Path, say: Callable[[str], None]) -> Path:
    """Return the interpreter of EnOSlib's environment, which is made if it does not exist for this lock file and this Python.

    Args:
        cache: the user's cache directory.
        say: called with lines about the progress.

    Raises:
        AtollError: `testbed.requirement`: the environment can't be made.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    key = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    directory = cache / "enoslib" / f"{key}-{version}"
    program = directory / "bin" / "python"
    if not (directory / _STAMP).exists():
        say("installing EnOSlib into an environment of its own")
        make_directory(directory.parent)
        shutil.rmtree(directory, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(directory)])
        _run(
            [
                str(program),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
                "--require-hashes",
                "-r",
                str(LOCK),
            ]
        )
        (directory / _STAMP).touch()
    return program


def _run(command: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, env=environment)
    if done.returncode != 0:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()] or ["no output"]
        reason = next((line for line in reversed(lines) if line.startswith("ERROR:")), lines[-1])
        raise AtollError("testbed.requirement", f"EnOSlib can't be installed: {reason}", "check the access to Python's package index")

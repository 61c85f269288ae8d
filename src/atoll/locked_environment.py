"""Environments of Python packages that conflict with the project's, made on demand from a lock file.

An environment is made again if the content of the lock file changes. A lock serialises the processes that make the same environment.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

Say = Callable[[str], None]
"""A function that shows the user a line about the progress."""


class NotMade(Exception):
    """An environment can't be made; the text is the reason in one line."""


def key(lock: Path) -> str:
    """Return a name for the environments of a lock file and this version of Python."""
    return hashlib.sha256(f"{sys.version_info[:2]}".encode() + lock.read_bytes()).hexdigest()[:12]


def ensure(lock: Path, directory: Path, what: str, say: Say) -> Path:
    """Make an environment if it does not exist yet, and return its Python interpreter.

    Args:
        lock: the lock file, with a hash of each package.
        directory: the environment's directory.
        what: a line that tells the user that the environment is being made.
        say: called with this line before the environment is made.

    Raises:
        NotMade: a package can't be installed, or a file can't be written.
    """
    python, stamp = directory / "bin" / "python", directory / "installed"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / "lock").open("w", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not stamp.exists() or stamp.read_bytes() != lock.read_bytes():
                say(what)
                stamp.unlink(missing_ok=True)
                _make(lock, directory, python)
                shutil.copyfile(lock, stamp)
    except OSError as error:
        raise NotMade(f"{directory}: {error.strerror or error}") from None
    return python


def _make(lock: Path, directory: Path, python: Path) -> None:
    """Make the environment with uv, which takes seconds, or with the standard library's `venv` and pip."""
    beside = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    wanted = ["--quiet", "--no-deps", "--require-hashes", "--requirement", str(lock)]
    if uv := shutil.which("uv", path=beside):
        _command([uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(directory)])
        _command([uv, "pip", "install", "--python", str(python), *wanted])
    else:
        _command([sys.executable, "-m", "venv", str(directory)])
        _command([str(python), "-m", "pip", "install", *wanted])


def _command(words: list[str]) -> None:
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False, env=settings)
    if done.returncode:
        lines = [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
        reason = next((line for line in reversed(lines) if line.lower().startswith("error:")), (lines or [f"status {done.returncode}"])[-1])
        raise NotMade(f"`{Path(words[0]).name} {words[1]}` failed: {reason}")

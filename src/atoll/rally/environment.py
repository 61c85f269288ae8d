"""Rally's own environment, made on demand from a lock file, because Rally's pins differ from those of the project.

The environment is made once for each lock file and version of Python, in the user's cache directory.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from atoll.errors import AtollError

DIRECTORY = "ATOLL_RALLY"
"""The environment variable with the directory of Rally's environment, in place of that in the user's cache directory."""

LOCK = Path(__file__).with_name("requirements.lock")
DRIVER = Path(__file__).with_name("driver.py")

Say = Callable[[str], None]
"""A function that shows the user a line about the progress."""


def directory() -> Path:
    """Return the directory of the environment, which may not exist yet."""
    if given := os.environ.get(DIRECTORY):
        return Path(given).absolute()
    key = hashlib.sha256(f"{sys.version_info[:2]}".encode() + LOCK.read_bytes()).hexdigest()[:12]
    return user_cache_path("atoll") / f"rally-{key}"


def ensure(say: Say) -> Path:
    """Make the environment if it does not exist yet, and return its Python interpreter.

    Args:
        say: called with a line before the environment is made.

    Raises:
        AtollError: `rally.unavailable`: the environment can't be made.
    """
    made = directory()
    python, stamp = made / "bin" / "python", made / "installed"
    try:
        made.mkdir(parents=True, exist_ok=True)
        with (made / "lock").open("w", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not stamp.exists() or stamp.read_bytes() != LOCK.read_bytes():
                say(f"making Rally's environment in {made}: about 250 MB, once")
                stamp.unlink(missing_ok=True)
                _make(made, python)
                shutil.copyfile(LOCK, stamp)
    except OSError as error:
        raise _unavailable(f"{made}: {error.strerror or error}") from None
    return python


def _make(made: Path, python: Path) -> None:
    """Make the environment with uv, which takes seconds, or with the standard library's `venv` and pip."""
    beside = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    wanted = ["--quiet", "--no-deps", "--require-hashes", "--requirement", str(LOCK)]
    if uv := shutil.which("uv", path=beside):
        _command([uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(made)])
        _command([uv, "pip", "install", "--python", str(python), *wanted])
    else:
        _command([sys.executable, "-m", "venv", str(made)])
        _command([str(python), "-m", "pip", "install", *wanted])


def _command(words: list[str]) -> None:
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        lines = [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
        raise _unavailable(f"`{Path(words[0]).name} {words[1]}` failed: {lines[-1] if lines else f'exit status {done.returncode}'}")


def _unavailable(reason: str) -> AtollError:
    hint = f"Rally is installed from a package index once: connect the machine, or set {DIRECTORY} to an environment made elsewhere"
    return AtollError("rally.unavailable", f"Rally's environment can't be made: {reason}", hint)


def command(python: Path, verb: str, source: Path, target: Path) -> list[str]:
    """Return the command by which the environment's interpreter carries out a verb of `driver`."""
    return [str(python), "-I", str(DRIVER), verb, str(source), str(target)]


def variables(home: Path) -> dict[str, str]:
    """Return the environment variables of Rally's processes, without the user's own settings of Rally and of clouds.

    Args:
        home: a directory of the process alone.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OS_", "PYTHON", "RALLY_"))}
    return {**kept, "HOME": str(home)}


def ask(python: Path, verb: str, work: Any) -> Any:
    """Have the environment's interpreter carry out a verb of `driver`, and return the result.

    Raises:
        AtollError: `rally.unavailable`: the program failed.
    """
    with tempfile.TemporaryDirectory(prefix="atoll-rally-") as temporary:
        source, target = Path(temporary) / "in.json", Path(temporary) / "out.json"
        source.write_text(json.dumps(work), encoding="utf-8")
        words, settings = command(python, verb, source, target), variables(Path(temporary))
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False, env=settings, cwd=temporary
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            hint = f"delete {python.parent.parent}, so that the environment is made again"
            raise AtollError("rally.unavailable", f"Rally does not work: {lines[-1]}", hint)
        return json.loads(target.read_text(encoding="utf-8"))

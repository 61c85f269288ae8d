"""Rally's own environment, made on demand from a lock file, because Rally needs other versions of packages than the project."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from atoll import locked_environment
from atoll.errors import AtollError
from atoll.locked_environment import Say

DIRECTORY = "ATOLL_RALLY"
"""The environment variable that names a directory for Rally's environment, in place of that in the user's cache directory."""

LOCK = Path(__file__).with_name("requirements.lock")
DRIVER = Path(__file__).with_name("driver.py")


def directory() -> Path:
    """Return the directory of the environment, which may not exist yet."""
    if given := os.environ.get(DIRECTORY):
        return Path(given).absolute()
    return user_cache_path("atoll") / f"rally-{locked_environment.key(LOCK)}"


def ensure(say: Say) -> Path:
    """Make the environment if it does not exist yet, and return its Python interpreter.

    Args:
        say: called with a line before the environment is made.

    Raises:
        AtollError: `rally.unavailable`: the environment can't be made.
    """
    made = directory()
    try:
        return locked_environment.ensure(LOCK, made, f"making Rally's environment in {made}: about 250 MB, once", say)
    except locked_environment.NotMade as error:
        hint = f"Rally is installed from a package index once: connect the machine, or set {DIRECTORY} to an environment made elsewhere"
        raise AtollError("rally.unavailable", f"Rally's environment can't be made: {error}", hint) from None


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

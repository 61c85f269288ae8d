"""EnOSlib's own environment, made on demand from a lock file: its dependencies, such as Ansible, conflict with those of OpenStack."""

from __future__ import annotations

from pathlib import Path

from atoll import locked_environment
from atoll.errors import AtollError

LOCK = Path(__file__).with_name("enoslib.lock")


def python(cache: Path, say: locked_environment.Say) -> Path:
    """Make EnOSlib's environment if it does not exist for this lock file and this Python, and return its Python interpreter.

    Args:
        cache: the user's cache directory.
        say: called with lines about the progress.

    Raises:
        AtollError: `testbed.requirement`: the environment can't be made.
    """
    directory = cache / "enoslib" / locked_environment.key(LOCK)
    try:
        return locked_environment.ensure(LOCK, directory, "installing EnOSlib into an environment of its own", say)
    except locked_environment.NotMade as error:
        raise AtollError(
            "testbed.requirement", f"EnOSlib can't be installed: {error}", "check the access to Python's package index"
        ) from None

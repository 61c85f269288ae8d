"""Passwords that a user keeps in a file."""

from __future__ import annotations

import os
from pathlib import Path

from atoll.errors import AtollError


def read_password(path: Path, whose: str) -> str:
    """Return the password in a file that contains nothing else and that only its owner can read.

    Args:
        path: the path of the file.
        whose: the owner of the password, for the error.

    Raises:
        AtollError: `cloud.invalid`: others can read the file, it can't be read, or it is not one line of text.
    """
    try:
        with path.open(encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                message = f"{path}: others can read the password of {whose}: expected a file for its owner alone"
                raise AtollError("cloud.invalid", message, f"chmod 600 {path}")
            password = file.read(1000).strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror.lower() if isinstance(error, OSError) and error.strerror else "not text"
        raise AtollError("cloud.invalid", f"{path}: {why}: expected the password of {whose}") from None
    if not password or len(password.splitlines()) > 1:
        raise AtollError("cloud.invalid", f"{path}: expected the password of {whose}: one line")
    return password

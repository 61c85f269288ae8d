"""Passwords that a person keeps in a file of their own."""

from __future__ import annotations

import os
from pathlib import Path

from atoll.errors import AtollError


def read_password(path: Path, whose: str) -> str:
    """The password in a file that holds nothing else, and that nobody else may be able to read.

    Args:
        path: of the file.
        whose: it is, for the error.

    Raises:
        AtollError: `cloud.invalid`.
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

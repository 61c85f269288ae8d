"""The failure of a hand-off: one line for the user, and the HTTP status."""

from __future__ import annotations


class HandoffRefused(Exception):
    """A hand-off can't be made or continued.

    Args:
        message: one sentence for the user.
        status: the HTTP status.
    """

    def __init__(self, message: str, status: int = 409) -> None:
        super().__init__(message)
        self.status = status

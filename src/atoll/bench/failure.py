"""The error of an experiment that can't be carried out, or whose result is wrong."""

from __future__ import annotations

from atoll.errors import AtollError


def failed(message: str, hint: str | None = None) -> AtollError:
    """Return a `bench.failed` error for the caller to raise."""
    return AtollError("bench.failed", message, hint)

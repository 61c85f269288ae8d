"""The progress of an experiment, shown line by line."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]
"""A function that shows a line about the progress of an experiment."""

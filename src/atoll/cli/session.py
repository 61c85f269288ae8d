"""What all verbs of one invocation share."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atoll.site.state import State


class Session:
    """One invocation of the program.

    Attributes:
        directory: what --state says, absolute; None means the default.
        traceback: True to show Python's traceback of an error.
        umask: what it was before this program made its own stricter; None if it has not.
    """

    def __init__(self) -> None:
        self.directory: Path | None = None
        self.traceback = False
        self.umask: int | None = None

    @property
    def state(self) -> State:
        """The state directory."""
        from atoll.site.state import State, default_state

        return State(self.directory or default_state().absolute())

    @property
    def cache(self) -> Path:
        """The cache directory."""
        from atoll.site.state import default_cache

        return default_cache().absolute()

    @property
    def program(self) -> str:
        """How a person has to call this program to reach the same cloud again: `atoll`, with a path if it needs one."""
        words = [_program()]
        if self.directory is not None:
            words += ["--state", str(self.directory)]
        return shlex.join(words)

    def restore(self) -> None:
        """Give back what is the person's own, for a program that takes this one's place."""
        if self.umask is not None:
            os.umask(self.umask)

    def spell(self, text: str) -> str:
        """A text in which every command between backticks is one that works as it stands."""
        return text.replace("`atoll ", f"`{self.program} ")


def _program() -> str:
    found, own = shutil.which("atoll"), Path(sys.argv[0])
    if own.name != "atoll" or (found and Path(found).resolve() == own.resolve()):
        return "atoll"
    return str(own)

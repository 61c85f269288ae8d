"""The state of one invocation of the program, which its verb and its error handler share."""

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
        directory: absolute path of --state; `None` means the default.
        traceback: whether to show Python's traceback of an error.
        umask: the user's own umask; `None` if this program has not changed it.
    """

    def __init__(self) -> None:
        self.directory: Path | None = None
        self.traceback = False
        self.umask: int | None = None

    @property
    def state(self) -> State:
        """The state directory of the invocation."""
        from atoll.site.state import State, default_state

        return State(self.directory or default_state().absolute())

    @property
    def cache(self) -> Path:
        """The user's cache directory."""
        from atoll.site.state import default_cache

        return default_cache().absolute()

    @property
    def program(self) -> str:
        """The command line by which the user reaches the same cloud: `atoll`, with its path and --state if necessary."""
        words = [_program()]
        if self.directory is not None:
            words += ["--state", str(self.directory)]
        return shlex.join(words)

    def restore(self) -> None:
        """Restore the user's umask, because another program is about to replace this one."""
        if self.umask is not None:
            os.umask(self.umask)

    def spell(self, text: str) -> str:
        """Return a text in which each command `atoll …` between backticks is replaced with `program`, so that it can be copied and run."""
        return text.replace("`atoll ", f"`{self.program} ")


def _program() -> str:
    found, own = shutil.which("atoll"), Path(sys.argv[0])
    if own.name != "atoll" or (found and Path(found).resolve() == own.resolve()):
        return "atoll"
    return str(own)

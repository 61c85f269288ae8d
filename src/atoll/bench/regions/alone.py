"""Sites that do not cooperate: the gateway of each site reads no member card but its own, and so finds no other site.

The runtime calls `install` in each process that it forks, before the process's own entry; see `atoll.runtime.fork_server.HOOK`. Services,
networks and links are those of a cooperative cloud, so that only the cooperation differs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from atoll.gateway.options import Options
from atoll.runtime.child import Child

ALONE = "ATOLL_ALONE"
"""The environment variable that keeps sites from cooperating, if it is set to any text."""

_FILE = "alone.json"


def install(child: Child) -> None:
    """Make the gateway of this process read only the member card of its own site, if the environment variable `ALONE` is set."""
    if ALONE not in os.environ or not child.name.endswith("/gateway"):
        return
    load: Callable[[Path], Options] = Options.load

    def load_alone(path: Path) -> Options:
        return alone(load(path))

    _replace(Options, "load", load_alone)


def _replace(owner: Any, name: str, function: Callable[[Path], Options]) -> None:
    setattr(owner, name, function)


def alone(options: Options) -> Options:
    """Return the options of a gateway with a file of member cards that has only the card of its own site."""
    cards = json.loads(options.members_file.read_text(encoding="utf-8"))
    file = options.members_file.with_name(_FILE)
    file.write_text(json.dumps([card for card in cards if card["name"] == options.site]), encoding="utf-8")
    return replace(options, members_file=file)

"""The systemd unit of a cloud: starts it when its machine starts, and stops it before the machine stops.

`atoll up` leaves a supervisor behind and ends, so the unit is a oneshot that stays active. The site needs neither the network nor another
site: the unit only waits until the machine has its addresses. If the start fails, processes that came up go on, and the unit tries again.
No limit of systemd's own may end a process of the cloud: the supervisor restarts processes that the kernel ends for lack of memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

RETRY_S = 30
"""Seconds after which a start that failed is tried again."""

STOP_S = 300
"""Greatest number of seconds for the stop. Guests have ten of them to shut down; on a slow disk, databases take longer."""

_UNIT = """\
[Unit]
Description=Atoll: the cloud in {described}
RequiresMountsFor={mounts}
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=oneshot
RemainAfterExit=yes
User={user}
Environment={environment}
ExecStart={start}
ExecStop={stop}
Restart=on-failure
RestartSec={retry}
KillMode=process
TimeoutStartSec=infinity
TimeoutStopSec={patience}
OOMPolicy=continue
TasksMax=infinity

[Install]
WantedBy=multi-user.target
"""


def unit(program: Sequence[str], directory: Path, cache: Path, user: str) -> str:
    """Return the text of a cloud's unit.

    Args:
        program: the words of the command `atoll`; the first is an absolute path.
        directory: the absolute path of the state directory.
        cache: the absolute path of the user's cache directory for Atoll.
        user: the name of the user who owns the state directory.
    """
    words = [*program, "--state", str(directory)]
    return _UNIT.format(
        described=str(directory).replace("%", "%%"),
        mounts=" ".join(map(_quoted, dict.fromkeys((str(directory), str(cache))))),
        user=user,
        environment=_quoted(f"XDG_CACHE_HOME={cache.parent}"),
        start=_command([*words, "up"]),
        stop=_command([*words, "down"]),
        retry=RETRY_S,
        patience=STOP_S,
    )


def _command(words: Sequence[str]) -> str:
    """Return a command line. systemd replaces variables in all of its words but the first."""
    program, *arguments = map(_quoted, words)
    return " ".join([program, *(word.replace("$", "$$") for word in arguments)])


def _quoted(word: str) -> str:
    """Return a word as systemd reads it back: see systemd.syntax(7), *Quoting*, and systemd.unit(5), *Specifiers*."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if any(each in " \t\"'\\;" for each in word) else escaped

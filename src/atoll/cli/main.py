"""The entry point of the program `atoll`, which turns errors into one line on standard error and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from atoll.cli.group import cli
from atoll.cli.output import plain
from atoll.cli.session import Session
from atoll.errors import AtollError

FAILURE, USAGE, BUG, INTERRUPTED = 1, 2, 70, 130


SYSTEM_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def main() -> NoReturn:
    """Run the program with the arguments of the process, and exit."""
    find_system_programs()
    # Only the owner may read files in the state directory, including those that child processes write.
    sys.exit(run(sys.argv[1:], os.umask(0o077)))


def find_system_programs() -> None:
    """Add the directories of system programs to the PATH.

    Debian installs libvirtd, ovs-vswitchd and others there; the PATH of ordinary users, and of root after `su`, lacks them.
    """
    path = os.environ.get("PATH") or os.defpath
    missing = [directory for directory in SYSTEM_PATH if directory not in path.split(os.pathsep)]
    os.environ["PATH"] = os.pathsep.join([path, *missing])


def run(arguments: Sequence[str], umask: int | None = None) -> int:
    """Run a command line, and return its exit code.

    Args:
        arguments: the arguments, without the program's name.
        umask: the user's own umask; see `Session.restore`.

    Returns:
        The exit code; see `group.EXIT_CODES`.
    """
    session = Session()
    session.umask = umask
    session.traceback = "--traceback" in arguments  # also for errors in the command line itself
    try:
        result = cli.main(list(arguments), prog_name="atoll", standalone_mode=False, obj=session)
        sys.stdout.flush()
    except Exception as error:
        if session.traceback:
            traceback.print_exc()
        return _report(error, session)
    except KeyboardInterrupt:
        return _report(click.Abort(), session)
    return result if isinstance(result, int) else 0


def _report(error: Exception, session: Session) -> int:
    match error:
        case AtollError():
            _print(error.message, error.hint, session)
            return FAILURE
        case click.UsageError():
            path = error.ctx.command_path if error.ctx else "atoll"
            _print(_lower(error.format_message()), f"`{path} --help`", session)
            return USAGE
        case click.ClickException():
            _print(_lower(error.format_message()), None, session)
            return FAILURE
        case click.Abort():
            _print("interrupted", "operations that have begun continue: see `atoll status`", session)
            return INTERRUPTED
        case OSError():
            # A full disk behind `>`, a closed terminal, or the cache; errors in the state directory are AtollErrors already.
            hint = "set XDG_CACHE_HOME to a directory of your own" if _is_cache(error.filename, session.cache) else None
            _print(f"{error.filename or 'standard output'}: {(error.strerror or str(error)).lower()}", hint, session)
            return FAILURE
    text = " ".join(str(error).split())[:300]
    hint = "run the command again as `atoll --traceback …`, and report the output"
    _print(f"this is a bug in atoll: {type(error).__name__}: {text}", hint, session)
    return BUG


def _is_cache(refused: object, cache: Path) -> bool:
    """Return whether a refused path is the cache directory, a parent of it, or inside it."""
    if not isinstance(refused, str):
        return False
    path = Path(refused)
    return path == cache or path in cache.parents or cache in path.parents


def _print(message: str, hint: str | None, session: Session) -> None:
    text = f"error: {session.spell(message)}\n"
    if hint:
        text += f"hint: {session.spell(hint)}\n"
    # Escape control characters, because another user or another machine may have chosen a name in the text.
    sys.stderr.write("\n".join(map(plain, text.split("\n"))))


def _lower(text: str) -> str:
    return (text[:1].lower() + text[1:]).rstrip(".")

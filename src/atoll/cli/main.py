"""Runs the program: errors become one line on standard error, and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from atoll.cli.group import cli
from atoll.cli.session import Session
from atoll.errors import AtollError

FAILURE, USAGE, BUG, INTERRUPTED = 1, 2, 70, 130


SYSTEM_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def main() -> NoReturn:
    """Run as a program."""
    find_system_programs()
    # Whatever is written below the state directory is for its owner alone, also by those we start.
    sys.exit(run(sys.argv[1:], os.umask(0o077)))


def find_system_programs() -> None:
    """Search for programs in the directories for administrators too.

    Debian's libvirtd, ovs-vswitchd and others are there, which are not on the path of root by `su`, nor on that of ordinary users.
    """
    path = os.environ.get("PATH") or os.defpath
    missing = [directory for directory in SYSTEM_PATH if directory not in path.split(os.pathsep)]
    os.environ["PATH"] = os.pathsep.join([path, *missing])


def run(arguments: Sequence[str], umask: int | None = None) -> int:
    """Run a command line.

    Args:
        arguments: without the program's name.
        umask: the person's own; see `Session.restore`.

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
            _print("interrupted", "what was begun goes on: see `atoll status`", session)
            return INTERRUPTED
        case OSError():
            # A full disk behind `>`, a terminal that went away: whatever concerns the state directory was explained below.
            hint = "set XDG_CACHE_HOME to a directory of your own" if _is_cache(error.filename, session.cache) else None
            _print(f"{error.filename or 'standard output'}: {(error.strerror or str(error)).lower()}", hint, session)
            return FAILURE
    text = " ".join(str(error).split())[:300]
    hint = "run it again with --traceback before the command, and report what that shows"
    _print(f"this is a bug in atoll: {type(error).__name__}: {text}", hint, session)
    return BUG


def _is_cache(refused: object, cache: Path) -> bool:
    """True if what the system refused is the cache directory, leads to it, or is in it."""
    if not isinstance(refused, str):
        return False
    path = Path(refused)
    return path == cache or path in cache.parents or cache in path.parents


def _print(message: str, hint: str | None, session: Session) -> None:
    text = f"error: {session.spell(message)}\n"
    if hint:
        text += f"hint: {session.spell(hint)}\n"
    sys.stderr.write(text)


def _lower(text: str) -> str:
    return (text[:1].lower() + text[1:]).rstrip(".")

"""Commands of `atoll` that an experiment runs as a user would, and the processes of its cloud."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from atoll.bench.failure import failed
from atoll.bench.processes import family
from atoll.errors import AtollError
from atoll.runtime.client import connect
from atoll.site.state import State
from atoll.wan.client import Wan

TIMEOUT_S = 1800.0
"""Seconds to wait for a command: with many sites, without templates, on a busy machine."""

_WORDS_BEFORE = 5  # the interpreter, -m, atoll, --state, its directory


def atoll(state: State, log: Path, environment: Mapping[str, str], *arguments: str) -> None:
    """Run a command of `atoll` and wait for its end.

    Args:
        state: the state directory of the cloud.
        log: the file for the command's output.
        environment: the environment of the command.
        arguments: the verb and its arguments.

    Raises:
        AtollError: `bench.failed`: the command failed; the message contains the command's own error message.
    """
    await_end(begin(state, log, environment, *arguments), log)


def begin(state: State, log: Path, environment: Mapping[str, str], *arguments: str) -> subprocess.Popen[bytes]:
    """Start a command of `atoll` without waiting; see `atoll`."""
    words = [sys.executable, "-m", "atoll", "--state", str(state.root), *arguments]
    with log.open("ab") as output:
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=dict(environment))


def await_end(command: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for a command to end.

    Raises:
        AtollError: `bench.failed`: the command failed, or did not end in time.
    """
    try:
        code = command.wait(TIMEOUT_S)
    except subprocess.TimeoutExpired:
        command.kill()
        command.wait()
        raise failed(f"`{_spelled(command)}` has not ended within {TIMEOUT_S:.0f} s") from None
    if code != 0:
        raise failure(command, log)


def failure(command: subprocess.Popen[bytes], log: Path) -> AtollError:
    """Return the error for a failed command: the last error in its log."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    said = next((line for line in reversed(lines) if line.startswith("error: ")), f"exit status {command.returncode}")
    return failed(f"`{_spelled(command)}`: {said.removeprefix('error: ')}")


def _spelled(command: subprocess.Popen[bytes]) -> str:
    assert isinstance(command.args, list)
    return " ".join(["atoll", *map(str, command.args[_WORDS_BEFORE:])])


def pids(state: State) -> list[int]:
    """Return the ids of a cloud's supervisor, its WAN and all their descendants; empty if the cloud does not run."""
    control = connect(state.root) if state.root.exists() else None
    if control is None:
        return []
    wan = Wan.connect(state.root)
    supervisors = [status.pid for status in control.status() if status.kind == "supervisor" and status.pid]
    return family([*supervisors, *([int(wan.describe()["pid"])] if wan else [])])

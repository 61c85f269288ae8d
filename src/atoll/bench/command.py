"""A cloud of an experiment's own, driven by the command line as a person would, and the processes that it consists of."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from atoll.bench.measure import failed, family
from atoll.errors import AtollError
from atoll.runtime.control import connect
from atoll.site.state import State
from atoll.wan.client import Wan

TIMEOUT_S = 1800.0
"""Seconds that a command may take: with many sites, no templates, on a machine that others use too."""

_WORDS_BEFORE = 5  # the interpreter, -m, atoll, --state, its directory


def atoll(state: State, log: Path, environment: Mapping[str, str], *arguments: str) -> None:
    """Run a command of `atoll`, to its end.

    Args:
        state: of the cloud.
        log: gets what the command says.
        environment: of the command.
        arguments: the verb and what follows it.

    Raises:
        AtollError: `bench.failed`, with what the command said.
    """
    await_end(begin(state, log, environment, *arguments), log)


def begin(state: State, log: Path, environment: Mapping[str, str], *arguments: str) -> subprocess.Popen[bytes]:
    """Start a command of `atoll`; see `atoll`."""
    words = [sys.executable, "-m", "atoll", "--state", str(state.root), *arguments]
    with log.open("ab") as output:
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=dict(environment))


def await_end(command: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for a command to end.

    Raises:
        AtollError: `bench.failed`: it failed, or didn't end.
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
    """The error for a command that has failed: the last error that is in its log."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    said = next((line for line in reversed(lines) if line.startswith("error: ")), f"exit status {command.returncode}")
    return failed(f"`{_spelled(command)}`: {said.removeprefix('error: ')}")


def _spelled(command: subprocess.Popen[bytes]) -> str:
    assert isinstance(command.args, list)
    return " ".join(["atoll", *map(str, command.args[_WORDS_BEFORE:])])


def pids(state: State) -> list[int]:
    """The supervisor of a cloud and its WAN, and all their descendants; none if it doesn't run."""
    control = connect(state.root) if state.root.exists() else None
    if control is None:
        return []
    wan = Wan.connect(state.root)
    supervisors = [status.pid for status in control.status() if status.kind == "supervisor" and status.pid]
    return family([*supervisors, *([int(wan.describe()["pid"])] if wan else [])])

"""Commands of `atoll` that the experiment runs inside a site, as a user there would."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from atoll.bench.cloud.stage import MeasuredCloud
from atoll.bench.failure import failed
from atoll.site.inside import place

TRANSFER_S = 1800.0
"""Seconds to wait for the end of a command, or for an image that is on its way over a slow link."""

_WORDS_BEFORE = 3  # the interpreter, -m, atoll


def begin(cloud: MeasuredCloud, site: str, *words: str | Path) -> subprocess.Popen[str]:
    """Start a command of `atoll` inside a site as its administrator, with JSON as its output; see `result`."""
    environment = place(cloud.state, site).environment(cloud.environment)
    command = [sys.executable, "-m", "atoll", *map(str, words), "--json"]
    pipe = subprocess.PIPE
    return cloud.wan.popen(site, command, env=environment, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)


def result(process: subprocess.Popen[str]) -> Any:
    """Wait for the end of a command, and return the decoded JSON that it prints.

    Raises:
        AtollError: `bench.failed`: the command failed; the message contains its error.
    """
    try:
        output, errors = process.communicate(timeout=TRANSFER_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise failed(f"`{_spelled(process)}` has not ended within {TRANSFER_S:.0f} s") from None
    if process.returncode:
        lines = [line for line in errors.splitlines() if line.startswith("error: ")] or errors.splitlines()[-1:] or ["no message"]
        raise failed(f"`{_spelled(process)}`: {lines[0].removeprefix('error: ')}")
    return json.loads(output)


def _spelled(process: subprocess.Popen[str]) -> str:
    assert isinstance(process.args, list)
    return " ".join(["atoll", *map(str, process.args[_WORDS_BEFORE:])])

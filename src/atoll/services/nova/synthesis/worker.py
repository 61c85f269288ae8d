"""The process that applies overlays for nova-compute: `python -m atoll.cloudlet.synthesis`, which bounds its own memory and time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from atoll.services.nova.synthesis.overlays import OverlayRefusal

PROGRAM = "atoll.cloudlet.synthesis"

_INHERITED = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "TZ")
"""Variables of the environment that the process inherits; no others, because it reads strangers' data and nova-compute's environment has
secrets."""

_LIBRARIES = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""Variables that limit numpy's libraries to one thread: each thread reserves memory, and the process's memory is bounded."""


class WrongBase(OverlayRefusal):
    """Raised if the data of an image are not the base that its property names."""


def work(task: Mapping[str, Any]) -> str | None:
    """Carry out a task in a process of its own.

    Args:
        task: see `atoll.cloudlet.synthesis`.

    Returns:
        The key of the answer.

    Raises:
        WrongBase: the data of a base have another digest.
        OverlayRefusal: the task failed.
    """
    command = [sys.executable, "-P", "-m", PROGRAM]
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ} | _LIBRARIES
    done = subprocess.run(command, input=json.dumps(task), capture_output=True, text=True, check=False, env=environment)
    if done.returncode == -signal.SIGXCPU:
        raise OverlayRefusal("applying the overlay needs more processor time than a server may take")
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or [""])[-1][:120]
        message = f"the process that applies overlays ended with code {done.returncode} {last}".strip()
        raise OverlayRefusal(_without_places(message, task)) from None
    error = answer.get("error")
    if error:
        raise (WrongBase if error["code"] == "cloudlet.base" and "digest" in task else OverlayRefusal)(
            _without_places(error["message"], task)
        )
    key: str | None = answer["key"]
    return key


def _without_places(message: str, task: Mapping[str, Any]) -> str:
    """Return a message for a user without the places of the site's files."""
    places = {str(task.get(name) or ""): f"the {name}" for name in ("overlay", "disk", "target", "cache", "stream", "directory")}
    for place in sorted(filter(None, places), key=len, reverse=True):
        message = message.replace(place, places[place])
    return message

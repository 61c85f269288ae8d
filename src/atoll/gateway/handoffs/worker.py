"""The process that makes and applies residues: `python -m atoll.cloudlet.handoff`, which bounds its own memory and time."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from atoll.gateway.handoffs.failures import HandoffRefused

PROGRAM = "atoll.cloudlet.handoff"

MOST_AT_ONCE = 2
"""Greatest number of such processes: each may take the memory and the processor time of a whole site."""

_INHERITED = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "TZ")
_LIBRARIES = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
_STATUS = {"state.space": 507, "cloudlet.invalid": 400, "cloudlet.untrusted": 403, "cloudlet.base": 409}

_turns = asyncio.Semaphore(MOST_AT_ONCE)
_stopped_turn = asyncio.Semaphore(1)
"""A turn reserved for residues of stopped servers: their users wait, and large disks of other servers must not delay them."""


async def work(task: Mapping[str, Any], *, stopped: bool = False, program: str = PROGRAM) -> dict[str, Any]:
    """Carry out a task in a process of its own, which is killed if this coroutine is cancelled.

    Args:
        task: see `atoll.cloudlet.handoff.run`.
        stopped: whether the server is stopped during this work.
        program: the module that is run.

    Returns:
        The answer's fields.

    Raises:
        HandoffRefused: the task failed.
    """
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ} | _LIBRARIES
    pipe = asyncio.subprocess.PIPE
    async with _stopped_turn if stopped else _turns:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", program), stdin=pipe, stdout=pipe, stderr=pipe, env=environment
        )
        try:
            output, errors = await process.communicate(json.dumps(task).encode())
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
    if process.returncode == -signal.SIGXCPU:
        raise HandoffRefused("the residue needs more processor time than a hand-off may take")
    try:
        answer: dict[str, Any] = json.loads(output)
    except ValueError:
        last = (errors.decode(errors="replace").strip().splitlines() or [""])[-1][:120]
        raise HandoffRefused(f"the process of the hand-off ended with code {process.returncode} {last}".strip()) from None
    if error := answer.get("error"):
        raise HandoffRefused(_without_places(str(error["message"]), task), _STATUS.get(error["code"], 500))
    return answer


def _without_places(message: str, task: Mapping[str, Any]) -> str:
    """Return a message for a user without the places of the site's files."""
    for name in ("target", "overlay", "disk", "states", "images"):
        if place := str(task.get(name) or ""):
            message = message.replace(place, f"the {name}")
    return message

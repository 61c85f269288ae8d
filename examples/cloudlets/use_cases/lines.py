"""Lines of JSON between the field and its operator: the field tells its steps, and waits for the operator's answer to some of them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from use_cases.cloud import CloudError
from use_cases.messages import Message, decode


def tell(step: str, **more: Any) -> None:
    """Write a step to standard output."""
    sys.stdout.write(json.dumps({"step": step, **more}) + "\n")
    sys.stdout.flush()


async def ask(step: str, **more: Any) -> Message:
    """Tell a step, and return the operator's answer."""
    tell(step, **more)
    return decode((await asyncio.to_thread(sys.stdin.readline)).encode())


def operate(words: list[str], take: Callable[[str, Message], Message | None]) -> None:
    """Run a field, and answer its steps until it ends.

    Args:
        words: the field's command.
        take: takes a step and its fields, and returns the answer if the field waits for one.

    Raises:
        CloudError: the field ended early.
    """
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as field:
        assert field.stdin
        assert field.stdout
        try:
            for line in field.stdout:
                message = decode(line.encode(), "step")
                answer = take(message.pop("step"), message)
                if answer is not None:
                    field.stdin.write(json.dumps(answer) + "\n")
                    field.stdin.flush()
        finally:
            field.stdin.close()
    if field.returncode:
        raise CloudError("the field ended before the end of the scenario")

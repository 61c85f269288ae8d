"""Messages of the control protocol: one JSON object a line, and errors as JSON."""

from __future__ import annotations

import json
from typing import Any

from atoll.errors import REGISTRY, AtollError

LINE_LIMIT = 16 * 1024 * 1024
"""Greatest number of bytes of a message; the plan of a thousand processes takes a hundredth of them."""

Message = dict[str, Any]


def encode(message: Message) -> bytes:
    """Return a message as one line, with its newline."""
    return json.dumps(message).encode() + b"\n"


def decode(line: bytes) -> Message:
    """Return the message of a line.

    Raises:
        ValueError: the line is not one JSON object.
    """
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise ValueError("expected one line with a JSON object")  # noqa: TRY004 - of what is read, not of an argument
    return message


def error_to_json(error: AtollError) -> dict[str, Any]:
    """Return an error as JSON data; `error_from_json` is the reverse."""
    return {"code": error.kind.code, "message": error.message, "hint": error.hint}


def error_from_json(data: dict[str, Any], unknown: str = "runtime.invalid") -> AtollError:
    """Return the error that JSON data describe.

    Args:
        data: from `error_to_json`, perhaps of another version of Atoll.
        unknown: the code to use instead of a code that this version does not have.
    """
    code = data["code"] if data["code"] in REGISTRY else unknown
    return AtollError(code, data["message"], data["hint"])


def failure(error: AtollError) -> bytes:
    """Return the last line of an answer that is an error."""
    return encode({"error": error_to_json(error)})


def result(message: Message, unknown: str = "runtime.invalid") -> Any:
    """Return the result in the last line of an answer.

    Args:
        message: that line.
        unknown: see `error_from_json`.

    Raises:
        AtollError: the error that the line describes.
        KeyError: the line is not the last line of an answer.
    """
    if "error" in message:
        raise error_from_json(message["error"], unknown)
    return message["ok"]

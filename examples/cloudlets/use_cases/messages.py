"""Messages over MQTT: JSON objects with sorted keys, so that a stranger can read them with `mosquitto_sub -v -t '#'`."""

from __future__ import annotations

import json
from typing import Any

Message = dict[str, Any]


class Malformed(ValueError):
    """A message that is no JSON object, or lacks a field."""


def encode(message: Message) -> bytes:
    """Return a message as it travels; the same message has always the same bytes."""
    return json.dumps(message, sort_keys=True, allow_nan=False, separators=(",", ":")).encode()


def decode(payload: bytes, *fields: str) -> Message:
    """Return a message.

    Args:
        payload: the bytes that have arrived.
        fields: the names of fields that the message must have.

    Raises:
        Malformed: the payload is no JSON object, or a field is missing.
    """
    try:
        message = json.loads(payload)
    except ValueError as error:
        raise Malformed(f"the message is not JSON: {error}") from error
    if not isinstance(message, dict):
        raise Malformed(f"the message is {type(message).__name__}: expected an object")
    missing = [field for field in fields if field not in message]
    if missing:
        raise Malformed(f"the message lacks {', '.join(missing)}")
    return message

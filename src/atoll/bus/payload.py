"""The JSON of context and message, encoded as by oslo.messaging's other drivers, but faster.

`oslo_serialization.jsonutils` turns values without a JSON type (a datetime, a UUID, an object with `__dict__`) into primitives. Nearly all
messages have no such values: orjson encodes them twenty times as fast, and calls `jsonutils.to_primitive` for the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from oslo_serialization import jsonutils

_BY_JSON = b" "
"""The prefix of text that the json module wrote; JSON ignores a space. orjson would read an integer above 64 bits as a float."""

_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS


class _Observers:
    """Functions that a tracer sets; they are called with the size of each value that the calling thread encodes or decodes."""

    encoded: Callable[[int], None] | None = None
    decoded: Callable[[int], None] | None = None


def observe(encoded: Callable[[int], None] | None, decoded: Callable[[int], None] | None) -> None:
    """Register functions that are called with the size in bytes of each value that is encoded or decoded, in the thread that does so."""
    _Observers.encoded, _Observers.decoded = encoded, decoded


def encode(value: Any) -> bytes:
    """Return `value` as JSON.

    Raises:
        TypeError, ValueError: the value can't be turned into JSON.
    """
    try:
        data = orjson.dumps(value, default=jsonutils.to_primitive, option=_OPTIONS)
    except TypeError:
        # orjson refuses values that json takes: integers above 64 bits, lone surrogates, keys of further types.
        data = _BY_JSON + jsonutils.dump_as_bytes(value)
    if _Observers.encoded is not None:
        _Observers.encoded(len(data))
    return data


def decode(data: bytes | memoryview) -> Any:
    """Return the value in `data`.

    Raises:
        ValueError: `data` is not JSON.
    """
    if _Observers.decoded is not None:
        _Observers.decoded(len(data))
    if data[:1] != _BY_JSON:
        return orjson.loads(data)
    try:
        return jsonutils.loads(bytes(data))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error

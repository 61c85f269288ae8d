"""The message of a refused call."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from atoll.errors import AtollError


def refusal(code: str, call: Callable[..., object], *arguments: object) -> str:
    """Return the message, of one line, with which a call is refused; its error has this code."""
    with pytest.raises(AtollError) as raised:
        call(*arguments)
    assert raised.value.kind.code == code
    assert "\n" not in raised.value.message
    return raised.value.message

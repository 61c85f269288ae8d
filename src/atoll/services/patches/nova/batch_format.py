"""The form of a batch: calls of Nova's remote objects that nova-compute sends to the conductor in one message.

Each action is a text of JSON, so that the message's own deserialisation leaves it alone: each action has a context of its own, in which its
objects are deserialised, as if it had been sent alone.
"""

from __future__ import annotations

from typing import Any

from nova.objects.base import NovaObjectSerializer
from oslo_serialization import jsonutils

NAMESPACE, VERSION = "atoll.batches", "1.0"
"""Namespace and version of the conductor's method `object_actions`; a conductor without it answers `UnsupportedVersion`."""

MAX_ACTIONS = 256
"""Greatest number of actions in a message."""

ENOUGH_CHARACTERS = 4 << 20
"""Characters of results after which the conductor answers a message and leaves its further actions to the next one.

The conductor holds all results of a message at the same time. One result may be larger, as it may be with upstream's own methods.
"""


def primitive(context: Any, value: Any) -> Any:
    """Return objects, and collections of them, in the serialised form of messages."""
    return NovaObjectSerializer().serialize_entity(context, value)


def dump(context: Any, value: Any) -> str:
    """Return objects, and collections of them, as a text of JSON."""
    return str(jsonutils.dumps(primitive(context, value)))


def load(context: Any, text: str) -> Any:
    """Return the value that `dump` was given; its objects get the context."""
    return NovaObjectSerializer().deserialize_entity(context, jsonutils.loads(text))

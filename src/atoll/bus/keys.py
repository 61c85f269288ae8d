"""The Zenoh key expressions of a bus. A key's parts are percent-encoded, since Zenoh gives `/ * $ # ? @` a meaning."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from atoll.bus.frames import Instance

_EMPTY = "="
"""Stands for an empty part. `quote` writes it in no other."""

# Strict, for what can't be written into a frame (atoll/bus/frames.py) would fail in the thread of whoever sends to it.
_LISTENER = re.compile(r"/(?P<name>[^/]+)/(?P<node>[0-9a-f]{16})/(?P<listener>[0-9]{1,10})\Z")
_MAX_LISTENER = 2**32 - 1


class Keys:
    """Keys under `oslo/VHOST`: nothing of one virtual host is seen in another."""

    def __init__(self, vhost: str) -> None:
        self._prefix = f"oslo/{_part(vhost)}"

    def node(self, node: int) -> str:
        """Where a node receives what is for it alone."""
        return f"{self._prefix}/node/{node:016x}"

    def fanout(self, exchange: str, topic: str) -> str:
        """Where all servers of a topic receive."""
        return f"{self._prefix}/fanout/{_part(exchange)}/{_part(topic)}"

    def listeners(self, kind: str, exchange: str, topic: str) -> str:
        """All presence tokens of those who listen to a topic, as a pattern; `kind` is "rpc" or "notify"."""
        return f"{self._prefix}/{kind}/{_part(exchange)}/{_part(topic)}/**"

    def listener(self, kind: str, exchange: str, topic: str, name: str, instance: Instance) -> str:
        """The presence token of one listener; `name` is its server (rpc) or its pool (notify)."""
        where = self.listeners(kind, exchange, topic).removesuffix("**")
        return f"{where}{_part(name)}/{instance.node:016x}/{instance.listener}"


def read_listener(key: str) -> tuple[str, Instance]:
    """The name and the instance that a presence token tells of.

    Raises:
        ValueError: it is no such key.
    """
    found = _LISTENER.search(key)
    if found is None or (listener := int(found["listener"])) > _MAX_LISTENER:
        raise ValueError(f"{key} does not end in NAME/NODE/LISTENER")
    return unquote(found["name"].removeprefix(_EMPTY)), Instance(int(found["node"], 16), listener)


def _part(text: str) -> str:
    """One part of a key; Zenoh allows no empty one."""
    return quote(text, safe="") or _EMPTY

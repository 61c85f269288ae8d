"""The Zenoh key expressions of a bus. A key's parts are percent-encoded, since Zenoh gives `/ * $ # ? @` a meaning."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from atoll.bus.frames import Instance
from atoll.bus.realms import DIGITS, OWN

_MOST_TOPICS = 1000
"""The greatest number of topics that an `Inbox` caches."""

_EMPTY = "="
"""The encoding of an empty part; `quote` never writes this character."""

# Strict: an instance that does not fit a frame (atoll/bus/frames.py) would raise in the thread of a sender.
_LISTENER = re.compile(r"/(?P<name>[^/]+)/(?P<node>[0-9a-f]{16})/(?P<listener>[0-9]{1,10})\Z")
_MAX_LISTENER = 2**32 - 1

TopicKey = tuple[str, str, str]
"""The kind ("rpc" or "notify"), the exchange and the topic of a listener."""


class Keys:
    """The keys under `oslo/VHOST`. No key of one virtual host matches a pattern of another."""

    def __init__(self, vhost: str) -> None:
        self._prefix = f"oslo/{_part(vhost)}"

    def node(self, node: int, source: int = OWN, topic: TopicKey | None = None) -> str:
        """Return the key of a frame for one node.

        Args:
            node: the number of the receiving node.
            source: the realm of the sender. Realm 0 may send anything: its frames have one key for each node.
            topic: the topic of the listener, for a request or a question; `None` for an answer to those.
        """
        if source == OWN:
            return f"{self._prefix}/node/{node:016x}"
        key = f"{self._prefix}/client/{node:016x}/{source:0{DIGITS}x}"
        return f"{key}/{'/'.join(map(_part, topic))}" if topic else key

    def from_clients(self, node: int) -> str:
        """Return the pattern of all keys of frames for a node from realms other than 0."""
        return f"{self._prefix}/client/{node:016x}/**"

    def fanout(self, exchange: str, topic: str) -> str:
        """Return the key at which all servers of a topic receive."""
        return f"{self._prefix}/fanout/{_part(exchange)}/{_part(topic)}"

    def listeners(self, kind: str, exchange: str, topic: str) -> str:
        """Return the pattern of the presence tokens of a topic's listeners; `kind` is "rpc" or "notify"."""
        return f"{self._prefix}/{kind}/{_part(exchange)}/{_part(topic)}/**"

    def listener(self, kind: str, exchange: str, topic: str, name: str, instance: Instance) -> str:
        """Return the presence token of one listener; `name` is its server (rpc) or its pool (notify)."""
        where = self.listeners(kind, exchange, topic).removesuffix("**")
        return f"{where}{_part(name)}/{instance.node:016x}/{instance.listener}"

    # Patterns that a router allows a client

    def nodes_of(self, realm: int) -> str:
        """Return the pattern of all keys of frames from realm 0 for the nodes of a realm."""
        return f"{self._prefix}/node/{realm:0{DIGITS}x}$*/**"

    def from_realm(self, source: int, topic: TopicKey | None = None) -> str:
        """Return the pattern of the keys of frames from a realm, which is not 0, to the nodes of realm 0; `topic` as for `node`."""
        key = f"{self._prefix}/client/{OWN:0{DIGITS}x}$*/{source:0{DIGITS}x}"
        return f"{key}/{'/'.join(map(_part, topic))}" if topic else key

    def listeners_of(self, kind: str, exchange: str, topic: str, name: str, realm: int) -> str:
        """Return the pattern of the presence tokens of a realm's listeners of one name."""
        where = self.listeners(kind, exchange, topic).removesuffix("**")
        return f"{where}{_part(name)}/{realm:0{DIGITS}x}$*/*"


def read_listener(key: str) -> tuple[str, Instance]:
    """Return the name and the instance in a presence token.

    Raises:
        ValueError: the key is not a presence token.
    """
    found = _LISTENER.search(key)
    if found is None or (listener := int(found["listener"])) > _MAX_LISTENER:
        raise ValueError(f"{key} does not end in NAME/NODE/LISTENER")
    return unquote(found["name"].removeprefix(_EMPTY)), Instance(int(found["node"], 16), listener)


class Inbox:
    """A reader of the keys of frames that arrive at a node from realms other than 0.

    Args:
        keys: the bus's key expressions.
        node: the number of the node.
    """

    def __init__(self, keys: Keys, node: int) -> None:
        self._skip = len(keys.from_clients(node)) - len("**")
        self._topics: dict[str, TopicKey | None] = {}

    def read(self, key: str) -> tuple[int, TopicKey | None]:
        """Return the realm of the sender, and the topic that a request or a question is for.

        Raises:
            ValueError: the key is not that of such a frame.
        """
        source, _, topic = key[self._skip :].partition("/")
        if len(source) != DIGITS:
            raise ValueError(f"{key} names no realm")
        if topic not in self._topics:
            self._remember(topic)
        return int(source, 16), self._topics[topic]

    def _remember(self, text: str) -> None:
        parts = text.split("/") if text else []
        if len(parts) not in {0, 3}:
            raise ValueError(f"{text} is not a topic")
        if len(self._topics) >= _MOST_TOPICS:
            self._topics.clear()
        kind, exchange, topic = (unquote(part.removeprefix(_EMPTY)) for part in parts) if parts else ("", "", "")
        self._topics[text] = (kind, exchange, topic) if parts else None


def _part(text: str) -> str:
    """Return one part of a key; Zenoh allows no empty one."""
    return quote(text, safe="") or _EMPTY

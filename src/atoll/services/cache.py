"""The cache of a service's process, for what upstream would ask memcached.

It stands in the place of oslo.cache's own dictionary (oslo_cache/backends/dictionary.py), which is made for tests: there every write looks
at all entries, of which none is ever dropped unless the back end is told separately how long they live; two threads that write and
delete at once meet a KeyError; and all who ask for a value get the same object, so that a change by one is seen by the others.
Here the number of entries is bounded, one lock guards them, and values are kept pickled, as memcached would keep them.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from cachetools import LRUCache
from dogpile.cache import api, register_backend

from atoll.services import invalidation

NAME = "oslo_cache.dict"
"""The name of what it stands for: oslo.config takes no other."""

ENTRIES = 8192
"""Some 1 KiB each. dogpile itself knows from when an entry is, and takes no old one."""


class ProcessCache(api.CacheBackend):
    """A dogpile back end: the most recently used entries of one region, in this process."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._entries: LRUCache[str, bytes] = LRUCache(arguments.get("entries", ENTRIES))
        self._lock = threading.Lock()
        invalidation.register(self.clear)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._entries.clear()

    def get(self, key: str) -> Any:
        """The value of a key, as a copy of its own; `NO_VALUE` if there is none."""
        with self._lock:
            data = self._entries.get(key)
        return api.NO_VALUE if data is None else pickle.loads(data)  # noqa: S301 - written by `set`

    def get_multi(self, keys: Iterable[str]) -> list[Any]:
        """The values of many keys."""
        return [self.get(key) for key in keys]

    def set(self, key: str, value: Any) -> None:
        """Keep a value; the one used longest ago goes if there are too many."""
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        with self._lock:
            self._entries[key] = data

    def set_multi(self, mapping: Mapping[str, Any]) -> None:
        """Keep many values."""
        for key, value in mapping.items():
            self.set(key, value)

    def delete(self, key: str) -> None:
        """Forget a key, if it is there."""
        with self._lock:
            self._entries.pop(key, None)

    def delete_multi(self, keys: Iterable[str]) -> None:
        """Forget many keys."""
        for key in keys:
            self.delete(key)


def install() -> None:
    """Make it known to dogpile, which otherwise loads every back end that is installed to find the one it wants."""
    register_backend(NAME, __name__, ProcessCache.__name__)  # type: ignore[no-untyped-call]

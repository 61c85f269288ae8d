"""Realms: the parts of a bus that a router distinguishes.

A node's number begins with its realm. Realm 0 belongs to the machine's own processes, which trust one another. Each client of a router has
a realm of its own, which the router derives from the client's certificate (`atoll.bus.access`). The key of a frame for another node names
the sender's realm, and the router lets no client name another client's realm. So a receiver knows the sender's realm, and checks the frame
against it.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable

OWN = 0
"""The realm of the machine's own processes."""

_NODE_BITS = 64
_BITS = 24
_LOW_BITS = _NODE_BITS - _BITS
DIGITS = _BITS // 4
"""Number of hexadecimal digits of a realm; a node's number begins with the digits of its realm."""

LARGEST = 2**_BITS - 1
"""The largest realm."""


def new_node(realm: int) -> int:
    """Return a number for one life of a process: its realm, and 40 random bits."""
    return realm << _LOW_BITS | secrets.randbits(_LOW_BITS)


def realm_of(node: int) -> int:
    """Return the realm of a node."""
    return node >> _LOW_BITS


def assign(names: Iterable[str]) -> dict[str, int]:
    """Return a realm for each client of a router.

    A name has the same realm wherever it is computed, unless it collides with another name.

    Args:
        names: the names of all clients of the router.
    """
    taken: dict[int, str] = {}
    for name in sorted(set(names)):
        realm = int.from_bytes(hashlib.sha256(name.encode()).digest()[: _BITS // 8])
        while realm == OWN or realm in taken:
            realm = (realm + 1) % (LARGEST + 1)
        taken[realm] = name
    return {name: realm for realm, name in taken.items()}

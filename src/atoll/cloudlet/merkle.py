"""A Merkle tree over the segments of an overlay: with its root and a path of digests, one segment can be verified without the others.

The tree has the shape of RFC 9162: of n leaves, the left branch holds k, where k is the largest power of two less than n. Leaves and inner
nodes are hashed with different contexts, so that one can't be passed off as the other.
"""

from __future__ import annotations

from collections.abc import Sequence

from blake3 import blake3

_LEAF = "atoll cloudlet 1 leaf"
_NODE = "atoll cloudlet 1 node"
_EMPTY = "atoll cloudlet 1 empty tree"


def leaf(length: int, digest: bytes) -> bytes:
    """Return the leaf of a segment: a digest of its length in bytes and its BLAKE3 digest."""
    return blake3(length.to_bytes(4, "little") + digest, derive_key_context=_LEAF).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the root of the tree over some leaves."""
    if not leaves:
        return blake3(b"", derive_key_context=_EMPTY).digest()
    level = list(leaves)
    while len(level) > 1:  # an odd node moves up a level unchanged, which gives the shape of RFC 9162
        paired = [_node(left, right) for left, right in zip(level[::2], level[1::2], strict=False)]
        level = [*paired, level[-1]] if len(level) % 2 else paired
    return level[0]


def path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the digests that, together with the leaf at `index`, yield the root: from the leaf's neighbour up to the root's child."""
    level, found = list(leaves), []
    while len(level) > 1:
        beside = index ^ 1
        if beside < len(level):
            found.append(level[beside])
        paired = [_node(left, right) for left, right in zip(level[::2], level[1::2], strict=False)]
        level = [*paired, level[-1]] if len(level) % 2 else paired
        index //= 2
    return found


def verify(root_: bytes, count: int, index: int, leaf_: bytes, beside: Sequence[bytes]) -> bool:
    """Return whether a leaf belongs to a tree.

    Args:
        root_: the tree's root, from a signed header.
        count: the number of the tree's leaves, from the same header.
        index: the index of the leaf, from 0.
        leaf_: the leaf.
        beside: the digests that `path` returned.
    """
    if not 0 <= index < count:
        return False
    node, rest = leaf_, list(beside)
    while count > 1:
        if index ^ 1 < count:
            if not rest:
                return False
            other = rest.pop(0)
            node = _node(other, node) if index % 2 else _node(node, other)
        index, count = index // 2, (count + 1) // 2
    return not rest and node == root_


def _node(left: bytes, right: bytes) -> bytes:
    return blake3(left + right, derive_key_context=_NODE).digest()

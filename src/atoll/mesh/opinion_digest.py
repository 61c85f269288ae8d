"""The digest of a member's opinions about all members, by which two members of a large cloud notice that their opinions differ.

In a large cloud each opinion is passed on once to each neighbour, so one lost message may leave a member with an opinion of before. Probes
carry the digest; if it differs, the neighbours send each other all their opinions.
"""

from __future__ import annotations

import hashlib

from atoll.mesh.swim_messages import News


class OpinionDigest:
    """An incremental digest of opinions: the exclusive or of their hashes, so that their order does not matter.

    Attributes:
        value: the digest, a number of 32 bits.
    """

    def __init__(self) -> None:
        self.value = 0
        self._hashes: dict[str, int] = {}

    def put(self, news: News) -> None:
        """Add an opinion, which replaces that about the same member."""
        self.drop(news.name)
        text = f"{news.name}/{int(news.state)}/{news.incarnation}"
        found = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big")
        self._hashes[news.name] = found
        self.value ^= found

    def drop(self, name: str) -> None:
        """Remove the opinion about a member, if there is one."""
        self.value ^= self._hashes.pop(name, 0)

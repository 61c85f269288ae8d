"""The public keys that a site's Keystone checks tokens with: those of all members, and of no site that was revoked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from atoll.files import write_private

OWN = "public.pem"
"""The key that Keystone itself has put there."""


class TokenKeys:
    """The directory of the keys, which Keystone reads anew for each token.

    Args:
        directory: where Keystone looks.
        staging: a directory on the same file system, in which a key is written before it is moved: Keystone must never see half of one.
    """

    def __init__(self, directory: Path, staging: Path) -> None:
        self._directory = directory
        self._staging = staging

    def own(self) -> str:
        """This site's own public key, in PEM."""
        return (self._directory / OWN).read_text(encoding="ascii")

    def follow(self, keys: Mapping[str, str]) -> bool:
        """Trust these sites, and no others.

        Args:
            keys: the public key of each other site whose tokens count (PEM).

        Returns:
            True if anything changed.
        """
        there = {path.stem: path for path in self._directory.glob("*.pem") if path.name != OWN}
        before = {name: path.read_text(encoding="ascii") for name, path in there.items()}
        for name in before.keys() - keys.keys():
            there[name].unlink()
        for name, key in keys.items():
            if before.get(name) != key:
                temporary = self._staging / f"{name}.pem"
                write_private(temporary, key)
                temporary.replace(self._directory / f"{name}.pem")
        return before != dict(keys)

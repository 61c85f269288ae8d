"""The public keys with which a site's Keystone checks tokens: the keys of all members, except revoked ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from atoll.files import write_private

OWN = "public.pem"
"""The file of the site's own key, which Keystone itself writes."""


class TokenKeys:
    """The directory of the keys, which Keystone reads again for each token.

    Args:
        directory: the directory that Keystone reads.
        staging: a directory on the same file system, in which a key is written before it is moved: Keystone must never read half a key.
    """

    def __init__(self, directory: Path, staging: Path) -> None:
        self._directory = directory
        self._staging = staging

    def own(self) -> str:
        """Return this site's own public key, in PEM."""
        return (self._directory / OWN).read_text(encoding="ascii")

    def follow(self, keys: Mapping[str, str]) -> bool:
        """Accept the tokens of these sites, and of no others.

        Args:
            keys: the public key of each other site whose tokens are accepted (PEM).

        Returns:
            True if any key was added, changed or removed.
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

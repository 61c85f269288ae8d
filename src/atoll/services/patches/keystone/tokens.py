"""Accepts tokens of sites whose clocks are ahead, and finds the site that issued a token.

In Keystone's JWS provider (`JWSFormatter._decode_token_from_id` in keystone/token/providers/jws/core.py), PyJWT refuses a token that was
issued in the future with an exception that Keystone does not expect: status 500. Here that check is off, because a wrong clock at the
issuer does not make a token invalid; its expiry is checked as before. Keys are added and removed with the members of the cloud: a key that
vanishes while it is read, or that is invalid, affects no other site. Each member's key is in a file with its name
(`identity/token_keys.py`).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import jwt
from cachetools import LRUCache
from keystone import exception
from keystone.token.providers.jws import core

OWN = "public"
"""Name of the file with this site's own key, without its suffix."""

_KNOWN = 8192


class ManySitesFormatter(core.JWSFormatter):
    """Upstream's formatter, which also accepts tokens of sites whose clocks are ahead."""

    doubtful: frozenset[str] = frozenset()
    """Sites whose keys are tried last, because one of them may publish the key of another as its own."""

    _sites: LRUCache[bytes, str] = LRUCache(_KNOWN)
    _lock = threading.Lock()

    @property
    def public_keys(self) -> list[str]:
        """Keys of all sites at present."""
        return [key for _, key in self._keys()]

    @classmethod
    def site_of(cls, token_id: str) -> str:
        """Return the name of the site that issued a token, `OWN` for this one.

        Raises:
            keystone.exception.TokenNotFound: no member has issued it.
        """
        with cls._lock:
            known = cls._sites.get(_digest(token_id))
        return known or cls()._decode(token_id)[0]

    @classmethod
    def _keys(cls) -> Iterator[tuple[str, str]]:
        paths = Path(core.CONF.jwt_tokens.jws_public_key_repository).iterdir()
        for path in sorted(paths, key=lambda path: (path.stem != OWN, path.stem in cls.doubtful, path.stem)):
            with suppress(FileNotFoundError):
                yield path.stem, path.read_text(encoding="ascii", errors="replace")

    def _decode_token_from_id(self, token_id: str) -> Any:
        return self._decode(token_id)[1]

    def _decode(self, token_id: str) -> tuple[str, Any]:
        for site, public_key in self._keys():
            try:
                claims = jwt.decode(
                    token_id, public_key, algorithms=self.accepted_algorithms, options={"verify_exp": False, "verify_iat": False}
                )
            except (jwt.PyJWTError, ValueError):  # signed by another site or by nobody, or the key is invalid
                continue
            with self._lock:
                self._sites[_digest(token_id)] = site
            return site, claims
        raise exception.TokenNotFound(token_id=token_id)


def _digest(token_id: str) -> bytes:
    return hashlib.sha256(token_id.encode()).digest()


def install() -> None:
    """Have Keystone's token provider use `ManySitesFormatter` (`Provider.__init__`)."""
    core.JWSFormatter = ManySitesFormatter


def site_of(here: str, doubtful: Iterable[str] = ()) -> Callable[[str], str]:
    """Return a function that names the site that issued a token.

    Args:
        here: this site's name.
        doubtful: sites that might publish another site's key.
    """
    ManySitesFormatter.doubtful = frozenset(doubtful)

    def find(token_id: str) -> str:
        return here if (found := ManySitesFormatter.site_of(token_id)) == OWN else found

    return find

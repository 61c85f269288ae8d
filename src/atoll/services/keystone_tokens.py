"""Tokens of other sites, whose clocks may be ahead; and which site has issued a token.

Keystone's JWS provider (`JWSFormatter._decode_token_from_id` in keystone/token/providers/jws/core.py) has PyJWT refuse a token that was
issued in the future, with an exception that it does not expect: status 500. Replaced: that check, for a site whose clock is wrong signs
tokens as good as any; when they expire is checked as before. And keys come and go with the members of the cloud: one that goes while they
are read, or that is none, stops nobody but its own site. Each member's key is in a file with its name (`gateway/identity/token_keys.py`).
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
"""The name of the file with this site's own key, without its suffix."""

_KNOWN = 8192


class ManySitesFormatter(core.JWSFormatter):  # type: ignore[misc]
    """Upstream's formatter, which takes tokens from clocks that are ahead."""

    doubtful: frozenset[str] = frozenset()
    """Sites that are tried last: one of them may show the key of another as its own."""

    _sites: LRUCache[bytes, str] = LRUCache(_KNOWN)
    _lock = threading.Lock()

    @property
    def public_keys(self) -> list[str]:
        """The keys that are there now."""
        return [key for _, key in self._keys()]

    @classmethod
    def site_of(cls, token_id: str) -> str:
        """The site that has issued a token, `OWN` for this one.

        Raises:
            keystone.exception.TokenNotFound: none of the members has.
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
            except (jwt.PyJWTError, ValueError):  # by another site, or by nobody; or the key is none
                continue
            with self._lock:
                self._sites[_digest(token_id)] = site
            return site, claims
        raise exception.TokenNotFound(token_id=token_id)


def _digest(token_id: str) -> bytes:
    return hashlib.sha256(token_id.encode()).digest()


def install() -> None:
    """Have Keystone's provider use it (`Provider.__init__`)."""
    core.JWSFormatter = ManySitesFormatter


def site_of(here: str, doubtful: Iterable[str] = ()) -> Callable[[str], str]:
    """Tell which site has issued a token.

    Args:
        here: this site's name.
        doubtful: sites that are not trusted to show no key but their own.
    """
    ManySitesFormatter.doubtful = frozenset(doubtful)

    def find(token_id: str) -> str:
        found = ManySitesFormatter.site_of(token_id)
        return here if found == OWN else found

    return find

"""Identifies the users of requests by the signatures of their tokens.

A signature identifies the user without a request to any service. Whether the token was revoked is decided by the service that gets the
request. So the user that this module returns may be used for limits, and for a request that a service has accepted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
from cachetools import LRUCache
from cryptography.hazmat.primitives.serialization import load_pem_public_key

LOG = logging.getLogger(__name__)

REMEMBERED = 2048
"""Number of tokens whose signatures are not checked again; about 2 MB."""

LONGEST = 8192
"""Greatest number of characters of a token; a Keystone token has about 700."""

OWN_KEY = "public"
"""Name, without its suffix, of the file with this site's own key; the files of other sites' keys have the names of the sites."""

KEYS_S = 1.0
"""Seconds after which the directory of the keys is read again."""


_ANY_TIME: Any = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}
"""Options of `jwt.decode` that check the signature alone."""


class TokenVerifier:
    """Verifies tokens with the public keys of all sites whose tokens are valid here.

    Args:
        directory: the directory of the public keys.
        now: returns seconds since 1970, for the expiry of tokens.
        monotonic: returns monotonic seconds, for reading the keys again.
    """

    def __init__(self, directory: Path, now: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._now = now
        self._monotonic = monotonic
        self._keys: list[tuple[str, Any]] = []
        self._changed = -1
        self._looked_at = float("-inf")
        self._verified: LRUCache[str, tuple[str, float, str]] = LRUCache(REMEMBERED)

    def remembered(self, token: str) -> str:
        """Return the user of a token that `user` has verified before; an empty string for any other token."""
        if not token:
            return ""
        if self._monotonic() - self._looked_at > KEYS_S:
            self._look()
        held = self._verified.get(token)
        return held[0] if held is not None and self._now() < held[1] else ""

    def user(self, token: str) -> str:
        """Return the id of the user to whom a site issued a token; empty if no site issued it, or it has expired."""
        if not token:
            return ""
        if self._monotonic() - self._looked_at > KEYS_S:
            self._look()
        held = self._verified.get(token)
        if held is None:
            held = self._verify(token)
            if held is None:
                return ""
            self._verified[token] = held
        return held[0] if self._now() < held[1] else ""

    def issuer(self, token: str) -> str:
        """Return the other site that issued a token which `user` has verified; empty for a token of this site, or an unverified one."""
        held = self._verified.get(token)
        return held[2] if held is not None and held[2] != OWN_KEY else ""

    def _verify(self, token: str) -> tuple[str, float, str] | None:
        if len(token) > LONGEST or token.count(".") != 2:
            return None
        for site, key in self._keys:
            try:
                # Another site's clock may be ahead; `user` compares the expiry with this site's clock.
                claims = jwt.decode(token, key, algorithms=["ES256"], options=_ANY_TIME)
            except (jwt.PyJWTError, ValueError):
                continue
            user, until = claims.get("sub"), claims.get("exp")
            return (user, float(until), site) if isinstance(user, str) and isinstance(until, int | float) else None
        return None

    def _look(self) -> None:
        """Read the keys again if the directory has changed."""
        self._looked_at = self._monotonic()
        try:
            changed = self._directory.stat().st_mtime_ns
            if changed == self._changed:
                return
            paths = sorted(self._directory.glob("*.pem"))
        except OSError:
            return
        self._keys = [(path.stem, key) for path in paths if (key := _key(path)) is not None]
        self._changed = changed
        self._verified = LRUCache(REMEMBERED)


def _key(path: Path) -> Any:
    """Return the public key in a file; `None` if the file holds no key, or is gone."""
    try:
        return load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        LOG.warning("%s holds no public key: %s", path.name, error)
        return None

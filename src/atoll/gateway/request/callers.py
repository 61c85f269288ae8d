"""The users of requests: known by tokens that a site of the cloud has signed.

The signature says who asks, at no other site's or service's cost. Whether the token was revoked since is for the service to say that the
request goes to. So a user that this module returns is good for limits, and for naming the user of a request that the service has accepted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from atoll.gateway.lists.union import Recent

LOG = logging.getLogger(__name__)

REMEMBERED = 2048
"""Tokens whose signatures are not checked again; some 2 MB."""

LONGEST = 8192
"""Characters of a token: a Keystone token has some 700."""

OWN_KEY = "public"
"""Name of the file with this site's own key, without its suffix; those of other sites' keys are the sites' names."""

KEYS_S = 1.0
"""Seconds after which the directory of the keys is looked at again."""


_ANY_TIME: Any = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}


class Callers:
    """The users that tokens belong to.

    Args:
        directory: of the public keys of the sites whose tokens count.
        now: seconds since 1970.
        monotonic: seconds, for the keys.
    """

    def __init__(self, directory: Path, now: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._now = now
        self._monotonic = monotonic
        self._keys: list[tuple[str, Any]] = []
        self._changed = -1
        self._looked_at = float("-inf")
        self._verified: Recent[str, tuple[str, float, str]] = Recent(REMEMBERED)

    def remembered(self, token: str) -> str:
        """Return what `user` does of a token that was checked before; of any other token nothing."""
        if not token:
            return ""
        if self._monotonic() - self._looked_at > KEYS_S:
            self._look()
        held = self._verified.get(token)
        return held[0] if held is not None and self._now() < held[1] else ""

    def user(self, token: str) -> str:
        """Return the id of the user that a site has issued a token to; empty if none has, or its time is over."""
        if not token:
            return ""
        if self._monotonic() - self._looked_at > KEYS_S:
            self._look()
        held = self._verified.get(token)
        if held is None:
            held = self._verify(token)
            if held is None:
                return ""
            self._verified.put(token, held)
        return held[0] if self._now() < held[1] else ""

    def issuer(self, token: str) -> str:
        """Return the site that has issued a token of which `user` has returned the user; empty for this site, and for any other token."""
        held = self._verified.get(token)
        return held[2] if held is not None and held[2] != OWN_KEY else ""

    def _verify(self, token: str) -> tuple[str, float, str] | None:
        if len(token) > LONGEST or token.count(".") != 2:
            return None
        for site, key in self._keys:
            try:
                # A site's clock may be ahead, and ours is the one that `user` asks.
                claims = jwt.decode(
                    token, key, algorithms=["ES256"], options={"verify_exp": False, "verify_iat": False, "verify_nbf": False}
                )
            except (jwt.PyJWTError, ValueError):
                continue
            user, until = claims.get("sub"), claims.get("exp")
            return (user, float(until), site) if isinstance(user, str) and isinstance(until, int | float) else None
        return None

    def _look(self) -> None:
        """Read the keys again if any came or went."""
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
        self._verified = Recent(REMEMBERED)


def _key(path: Path) -> Any:
    """Return a public key; `None` if the file is none, or has gone."""
    try:
        return load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        LOG.warning("%s is no public key: %s", path.name, error)
        return None

"""Tokens of other sites, whose clocks may be ahead.

Keystone's JWS provider (`JWSFormatter._decode_token_from_id` in keystone/token/providers/jws/core.py) has PyJWT refuse a token that was
issued in the future, with an exception that it does not expect: status 500. Replaced: that check, for a site whose clock is wrong signs
tokens as good as any; when they expire is checked as before. And keys come and go with the members of the cloud: one that goes while they
are read, or that is none, stops nobody but its own site.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import jwt
from keystone import exception
from keystone.token.providers.jws import core


class ManySitesFormatter(core.JWSFormatter):  # type: ignore[misc]
    """Upstream's formatter, which takes tokens from clocks that are ahead."""

    @property
    def public_keys(self) -> list[str]:
        """The keys that are there now."""
        keys = []
        for path in Path(core.CONF.jwt_tokens.jws_public_key_repository).iterdir():
            with suppress(FileNotFoundError):
                keys.append(path.read_text(encoding="ascii", errors="replace"))
        return keys

    def _decode_token_from_id(self, token_id: str) -> Any:
        for public_key in self.public_keys:
            try:
                return jwt.decode(
                    token_id, public_key, algorithms=self.accepted_algorithms, options={"verify_exp": False, "verify_iat": False}
                )
            except (jwt.PyJWTError, ValueError):  # by another site, or by nobody; or the key is none
                continue
        raise exception.TokenNotFound(token_id=token_id)


def install() -> None:
    """Have Keystone's provider use it (`Provider.__init__`)."""
    core.JWSFormatter = ManySitesFormatter

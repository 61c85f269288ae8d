"""Re-examines a service's refusal of another site's token, because this site may lack the data behind the token.

Keystone refuses a token whose user, role, credential or trust it does not have. If another site issued the token, these may still be on
their way here (`freshness`): the client would get 401 for a token that is valid. So after the refusal of such a token:

1. The issuer is asked for the identity data that this site lacks, even if the mesh can't reach it. If it answers, the request is repeated.
2. Otherwise the refusal stands if this site knows its reason: Keystone accepts the token and the service's own rules do not, or the token
   was revoked, or something that it names was deleted.
3. Otherwise this site can't determine whether the token is valid, and the answer is 503: the client keeps its token, and tries again.

This module never allows a request itself: the service decides about each repetition.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import jwt

from atoll.gateway.identity.freshness import Freshness
from atoll.gateway.local import Answer
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.request.target import Refused
from atoll.gateway.request.token_verifier import TokenVerifier
from atoll.gateway.request.validation import Verdict, judge, validate
from atoll.gateway.sites import Sites

_TOKENS = "/v3/auth/tokens"

_NAMED = {
    "sub": "user",
    "openstack_project_id": "project",
    "openstack_domain_id": "project",  # domains are projects too
    "openstack_trust_id": "trust",
    "openstack_app_cred_id": "application_credential",
}
"""Kinds of records by the claims of a token that name them (keystone/token/providers/jws/core.py)."""


class Unproven(Unreachable):
    """A token whose validity is unknown, because its issuer can't be asked.

    Args:
        issuer: the site that issued the token.
    """

    def __init__(self, issuer: str) -> None:
        super().__init__(issuer, "it issued a token that this site lacks data of")


class TokenRefusals:
    """Decides whether the refusal of a token stands.

    Args:
        sites: sends requests to the sites of the cloud.
        tokens: verifies the signatures of tokens.
        freshness: fetches identity data from the issuer of a token.
    """

    def __init__(self, sites: Sites, tokens: TokenVerifier, freshness: Freshness) -> None:
        self._sites = sites
        self._tokens = tokens
        self._freshness = freshness

    async def settle(self, call: Call, answer: Answer, again: Callable[[], Awaitable[Answer]]) -> Answer:
        """Return the final answer to a request whose first answer may have refused a valid token.

        Args:
            call: the request.
            answer: its answer so far.
            again: sends the request again.

        Raises:
            Unproven: whether the token is valid can't be known now.
            Unreachable: Keystone does not answer.
        """
        for token in _refused(call, answer.status):
            try:
                repeats = await self._reconsider(token, call.request_id)
            except Unreachable:
                _close(answer)
                raise
            if repeats and call.repeatable:
                _close(answer)
                return await again()
        return answer

    async def validate(self, token: str, request_id: str) -> None:
        """Check that a token is valid; see `validation.validate`.

        Raises:
            Refused: the token is not valid.
            Unproven: this can't be known now.
            Unreachable: Keystone does not answer.
        """
        try:
            await validate(self._sites, token, request_id)
        except Refused:
            if not await self._reconsider(token, request_id):
                raise
            await validate(self._sites, token, request_id)

    async def _reconsider(self, token: str, request_id: str) -> bool:
        """Return whether this site has received data since a token was refused, so that the token may be accepted now.

        Raises:
            Unproven: this site lacks data of the token, and its issuer does not answer.
            Unreachable: Keystone does not answer.
        """
        issuer = self._tokens.issuer(token) if self._tokens.user(token) else ""
        if not issuer or self._freshness.holds(token):
            return False
        if await self._freshness.insist(issuer, token):
            return True
        if await judge(self._sites, token, request_id) is Verdict.LACKING and not self._names_deleted(token):
            raise Unproven(issuer)
        return False

    def _names_deleted(self, token: str) -> bool:
        """Return whether something that a token with a valid signature names was deleted."""
        claims = jwt.decode(token, options={"verify_signature": False})
        return any(self._freshness.is_deleted(kind, str(claims[name])) for name, kind in _NAMED.items() if claims.get(name))


def _refused(call: Call, status: int) -> Iterator[str]:
    """Yield the tokens in a request to which a refusal with this status may refer.

    These are the client's own token, the token about which the client asks Keystone, and the token with which the client signs in. Keystone
    answers 404 to a client with a token whose user or project it does not have.
    """
    if call.token and (status == 401 or (status == 404 and call.service == "identity")):
        yield call.token
    if call.service != "identity" or call.path.rstrip("/") != _TOKENS:
        return
    subject = call.headers.get("X-Subject-Token", "")
    if status == 404 and subject:
        yield subject
    if status in {401, 404} and call.method == "POST" and (token := _signs_in_with(call.value)):
        yield token


def _signs_in_with(body: Any) -> str:
    """Return the token with which a body signs in; empty if it uses none."""
    try:
        token = body["auth"]["identity"]["token"]["id"]
    except (KeyError, TypeError):
        return ""
    return token if isinstance(token, str) else ""


def _close(answer: Answer) -> None:
    if not isinstance(answer, Reply):
        answer.close()

"""The source's requests to the destination's gateway, at its peer port (`peer_api`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from atoll.gateway.handoffs.failures import HandoffRefused
from atoll.gateway.handoffs.journal import Arriving, Departure
from atoll.gateway.handoffs.outgoing import PeerAnswer
from atoll.gateway.request.call import GATEWAY, Call, Reply, Unreachable, to_gateway
from atoll.gateway.sites import Sites

PATH = "/atoll/handoffs"

MOST_FACTS = 1 << 16
"""Greatest size of the facts about a new server that are recorded, in bytes of JSON."""

ANSWER_S = 60.0
"""Seconds to wait for an answer about a hand-off."""

APPLY_S = 3600.0
"""Seconds to wait until a residue was applied; the destination is pinged meanwhile."""


MOST_LAUNCHES = 8
"""Greatest number of launch images of the destination that are taken into account."""


@dataclass(frozen=True)
class HeldStates:
    """The states of a server that the destination has, or can begin with.

    Attributes:
        states: the names of the states, the newest first.
        launches: if it has no state, the digests of the launch images in its cache from which the server may have been started.
    """

    states: Sequence[str]
    launches: Sequence[str]


class PeerClient:
    """The requests about hand-offs from this site.

    Args:
        sites: sends the requests.
    """

    def __init__(self, sites: Sites) -> None:
        self._sites = sites

    async def prepare(self, departure: Departure, token: str) -> bool:
        """Announce a server, have its creation checked, and return whether the destination resumes its memory.

        Raises:
            HandoffRefused: the destination refuses.
            Unreachable: it does not answer.
        """
        body = {"server": departure.server, "project": departure.project, "wish": dict(departure.wish)}
        said = await self._ask(departure, _call("POST", "", body, token), APPLY_S)  # it may bring the image first
        return bool(said.get("memory"))

    async def held(self, departure: Departure) -> HeldStates:
        """Return the states that the destination has, or can begin with.

        Raises:
            HandoffRefused, Unreachable: as for `prepare`.
        """
        said = await self._ask(departure, _call("GET", "/states"))
        return HeldStates([str(each) for each in said["states"]], [str(each) for each in said.get("launches", [])][:MOST_LAUNCHES])

    async def begin(self, departure: Departure, digest: str) -> bool:
        """Have the destination make the state of the server's image if that has a digest; return whether it has.

        Raises:
            HandoffRefused, Unreachable: as for `prepare`.
        """
        return bool((await self._ask(departure, _call("POST", "/begin", {"digest": digest}), APPLY_S))["state"])

    async def piece(self, departure: Departure, offset: int, data: bytes) -> int:
        """Send a piece of a residue, and return the number of bytes that the destination has.

        Raises:
            HandoffRefused, Unreachable: as for `prepare`.
        """
        return int((await self._ask(departure, to_gateway("PUT", "/residue", query=f"offset={offset}", body=data)))["size"])

    async def apply(self, departure: Departure, base: str, state: str) -> None:
        """Have the residue that has arrived applied.

        Raises:
            HandoffRefused, Unreachable: as for `prepare`.
        """
        await self._ask(departure, _call("POST", "/apply", {"base": base, "state": state}), APPLY_S)

    async def commit(self, departure: Departure, token: str) -> PeerAnswer:
        """Have the server started.

        Raises:
            Unreachable: the destination does not answer, or its answer decides nothing.
        """
        return await self._decide(departure, _call("POST", "/commit", {"disk": departure.disk, **_named(departure)}, token))

    async def revoke(self, departure: Departure) -> PeerAnswer:
        """Forbid the start of the server, unless it was committed.

        Raises:
            Unreachable: as for `commit`.
        """
        return await self._decide(departure, _call("POST", "/revoke", _named(departure)))

    async def shown(self, departure: Departure) -> PeerAnswer:
        """Return the destination's state of the hand-off, without a request to start or revoke it.

        Raises:
            Unreachable: as for `commit`.
        """
        return await self._decide(departure, to_gateway("GET", "", query=urlencode(_named(departure))))

    async def forget(self, departure: Departure) -> None:
        """Have the record of the hand-off removed.

        Raises:
            Unreachable: the destination does not answer.
        """
        await self._send(departure, _call("DELETE", ""))

    async def _decide(self, departure: Departure, call: Call) -> PeerAnswer:
        reply = await self._send(departure, call)
        if reply.status == 404 and _error(reply):  # the destination has no record, so it has started nothing and never will
            return PeerAnswer(Arriving.REFUSED, _error(reply))
        try:
            said = reply.json()
            return PeerAnswer(Arriving(said["state"]), str(said["reason"])[:300], _facts(said["result"]))
        except (ValueError, KeyError, TypeError) as error:
            raise Unreachable(departure.site, _error(reply) or f"it answers {reply.status} about a hand-off") from error

    async def _ask(self, departure: Departure, call: Call, timeout_s: float = ANSWER_S) -> dict[str, Any]:
        reply = await self._send(departure, call, timeout_s)
        if reply.ok:
            found: dict[str, Any] = reply.json()
            return found
        if reply.status == 503 or (reply.status >= 500 and not _error(reply)):
            raise Unreachable(departure.site, _error(reply) or f"it answers {reply.status} about a hand-off")
        raise HandoffRefused(_error(reply) or f"{departure.site} answers {reply.status}: expected a site of this version", reply.status)

    async def _send(self, departure: Departure, call: Call, timeout_s: float = ANSWER_S) -> Reply:
        below = PATH.removeprefix(f"/{GATEWAY}")
        return await self._sites.send(departure.site, call.with_(path=f"{below}/{departure.id}{call.path}"), timeout_s)


def _facts(said: Any) -> dict[str, Any]:
    """Return the destination's facts for the user; an empty mapping if they exceed `MOST_FACTS`."""
    return dict(said) if len(json.dumps(said)) <= MOST_FACTS else {}


def _named(departure: Departure) -> dict[str, str]:
    return {"server": departure.server, "project": departure.project}


def _call(method: str, path: str, body: Mapping[str, Any] | None = None, token: str = "") -> Call:
    """Return a request about a hand-off; its path is below that of the hand-off."""
    call = to_gateway(method, path, headers={"X-Auth-Token": token} if token else {})
    return call if body is None else call.with_(json=dict(body))


def _error(reply: Reply) -> str:
    """Return the message of the destination's gateway; empty if something else has answered."""
    try:
        return " ".join(str(reply.json()["handoff"]).split())[:300]
    except (ValueError, KeyError, TypeError):
        return ""

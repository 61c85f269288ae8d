"""The API by which nova-compute gets the data that a site lacks to make the disk of an overlay, below `/cloudlet/v1/overlays/IMAGE`.

`POST …/base` has the base of the overlay brought to this site. `POST …/launch-image` answers with the disk that results from base and
overlay, from the cache of another site, if it arrives sooner than the base would; otherwise with 404.

The request has the token of the server's creator, with which the gateway does all work. So any user may send the request, and gets only
data that the user may read. A transfer may take hours, so the gateway answers 202 after `WAIT_S`, and the same request waits for the rest.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from aiohttp import web
from multidict import CIMultiDict

from atoll.gateway.bring import Bringer
from atoll.gateway.bring.references import IMAGE, Reference
from atoll.gateway.bring.service_client import BringRefused, ServiceClient
from atoll.gateway.bring.trust import MemberTrust
from atoll.gateway.edge import Door
from atoll.gateway.faults import fault
from atoll.gateway.overlays.bases import Claim, WantedBase, claims_elsewhere, claims_of, unused, wanted_base
from atoll.gateway.overlays.launches import LaunchImages, valid_keys
from atoll.gateway.request import headers as heads
from atoll.gateway.request import validation
from atoll.gateway.request.call import Reply, Unreachable, json_reply
from atoll.gateway.request.paths import is_uuid
from atoll.gateway.request.target import Refused
from atoll.gateway.sites import Sites, StreamedReply

LOG = logging.getLogger(__name__)

ROOT = "/cloudlet/"
"""First segment of the API's paths."""

WAIT_S = 20.0
"""Seconds after which a request is answered although the transfer still goes on."""

COLLECTED_S = 60.0
"""Seconds for which the result of a transfer waits for the request that fetches it."""

MOST_OF_PROJECT = 8
"""Greatest number of bases that are brought at the same time for one project."""

MOST_TRIED = 2
"""Greatest number of images that one request tries to bring: the data of the first may not exist at any site any more."""

MOST_WRONG = 16
"""Greatest number of images that a request may name as wrong."""

MOST_BYTES = 4096
"""Greatest size of a request's body in bytes."""

KEY = "X-Atoll-Key"
"""Set in an answer with a disk: the name of the key that has signed the overlay, according to the other site."""

SIZE = "X-Atoll-Size"
"""Set in an answer with a disk: bytes of the disk without holes, according to the other site."""

SECONDS = "X-Atoll-Expected-Seconds"
"""Set in an answer with a disk: seconds that the transfer is expected to take, a decimal number."""

_PATH = re.compile(r"/cloudlet/v1/overlays/([0-9a-f-]{36})/(base|launch-image)")
_WRITERS = frozenset(("admin", "manager", "member"))

_Key = tuple[str, str, str, frozenset[str]]


def concerns(raw_path: str) -> bool:
    """Return whether the target of a request belongs to this API."""
    return raw_path.startswith(ROOT)


@dataclass(frozen=True)
class _Order:
    """A request for a base.

    Attributes:
        client: sends requests with the user's token.
        overlay: the id of the overlay's image.
        project: the user's project, as Keystone has confirmed it.
        wrong: ids of images whose data are not the base.
    """

    client: ServiceClient
    overlay: str
    project: str
    wrong: frozenset[str]

    @property
    def key(self) -> _Key:
        """The identity of the order: requests of different tokens share no result."""
        return self.project, hashlib.sha256(self.client.token.encode()).hexdigest(), self.overlay, self.wrong


class OverlayBases:
    """Brings the bases of overlays to this site, or passes on launch images of other sites.

    Args:
        sites: sends requests to the sites.
        bringer: brings images.
        launches: asks the other sites for launch images.
        trust: the trust in the other sites.
    """

    def __init__(self, sites: Sites, bringer: Bringer, launches: LaunchImages, trust: MemberTrust | None = None) -> None:
        self._sites = sites
        self._bringer = bringer
        self._launches = launches
        self._trust = trust or MemberTrust()
        self._tasks: dict[_Key, asyncio.Task[str]] = {}

    async def stop(self) -> None:
        """Cancel the orders; images that are on their way go on."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def answer(self, request: web.BaseRequest, door: Door) -> Reply | StreamedReply:
        """Answer a request, valid or not.

        Args:
            request: the request.
            door: see `Door`.
        """
        try:
            return await self._answer(request, door)
        except Refused as refused:
            return fault("image", refused.status, refused.message, self._sites.here)
        except web.RequestPayloadError as error:
            return fault("image", 400, f"the body of the request is malformed: {error}", self._sites.here)
        except (BringRefused, Unreachable) as error:
            return fault("image", getattr(error, "status", 503), str(error), self._sites.here)

    async def _answer(self, request: web.BaseRequest, door: Door) -> Reply | StreamedReply:
        try:
            headers = heads.of_client(request.headers)
        except Refused:
            await door.admit("")
            raise
        token = headers.get("X-Auth-Token", "")
        await door.admit(token)
        path = _PATH.fullmatch(request.raw_path)
        if path is None or not is_uuid(path[1]) or request.method != "POST":
            raise Refused(404, "there is no such operation: expected POST /cloudlet/v1/overlays/IMAGE/base or …/launch-image")
        request_id = heads.request_id(headers.get(heads.REQUEST_ID))
        project = await self._confirm(token, request_id)
        client, body = ServiceClient(self._sites, token, request_id), await door.body(MOST_BYTES)
        if path[2] == "base":
            return await self._wait(_Order(client, path[1], project, _wrong(body)))
        return await self._launch(_Order(client, path[1], project, frozenset()), _keys(body))

    async def _confirm(self, token: str, request_id: str) -> str:
        """Return the project of a token whose user may create servers in it.

        Raises:
            Refused: the token is not valid, or may not do this.
            Unreachable: Keystone does not answer.
        """
        if not token:
            raise Refused(401, "the request has no token: expected an X-Auth-Token header")
        reply = await validation.ask(self._sites, token, request_id)
        if reply.status in {400, 404}:
            raise Refused(401, "the token is not valid: it has expired or was revoked")
        if not reply.ok:
            raise validation.unanswered(self._sites, reply)
        said = reply.json()["token"]
        if "access_rules" in (said.get("application_credential") or {}):
            raise Refused(403, "the token is limited by access rules, which let no base be brought")
        project = str((said.get("project") or {}).get("id") or "")
        if not project or not _WRITERS.intersection(role["name"] for role in said.get("roles", ())):
            raise Refused(403, "the token may create nothing in a project")
        return project

    async def _wait(self, order: _Order) -> Reply:
        """Begin or continue to bring a base, and return the answer: 200 when the base is here, 202 after `WAIT_S`."""
        task = self._tasks.get(order.key)
        if task is None:
            if sum(key[0] == order.project and not each.done() for key, each in self._tasks.items()) >= MOST_OF_PROJECT:
                raise Refused(503, "this site already brings as many bases as it may for one project: try again later")
            task = self._tasks[order.key] = asyncio.create_task(self._bring(order))
            task.add_done_callback(lambda done: self._forget_later(order, done))
        done, _ = await asyncio.wait({task}, timeout=WAIT_S)
        if not done:
            return json_reply(202, {"overlay": order.overlay}, self._sites.here)
        self._forget(order, task)
        return json_reply(200, {"image": task.result()}, self._sites.here)

    def _forget_later(self, order: _Order, task: asyncio.Task[str]) -> None:
        if not task.cancelled():
            task.exception()  # a client may never ask for the result
            asyncio.get_running_loop().call_later(COLLECTED_S, self._forget, order, task)

    def _forget(self, order: _Order, task: asyncio.Task[str]) -> None:
        if self._tasks.get(order.key) is task:
            del self._tasks[order.key]

    async def _bring(self, order: _Order) -> str:
        """Return the id of an image of this site that claims to be the base; bring one unless this site has it.

        Raises:
            Refused: there is no such overlay or base.
            BringRefused: the base is at another site and can't be brought.
            Unreachable: a service of this site does not answer.
        """
        client, wanted = order.client, await self._wanted(order)
        if there := unused(await claims_of(client, self._sites.here, wanted), order.wrong):
            return there[0].image
        claims, away = await claims_elsewhere(client, wanted, self._trust)
        return await self._first(client, unused(claims, order.wrong)[:MOST_TRIED]) or _nowhere(wanted, order.wrong, away)

    async def _wanted(self, order: _Order) -> WantedBase:
        """Return the base that an overlay needs.

        Raises:
            Refused: the user can read no such overlay at this site.
            Unreachable: Glance does not answer.
        """
        overlay = await order.client.look(self._sites.here, Reference(IMAGE, order.overlay))
        if overlay is None:
            raise Refused(404, f"{self._sites.here} has no active image {order.overlay} that you can read")
        wanted = wanted_base(overlay, order.project)
        if wanted is None:
            raise Refused(409, f"image {order.overlay} is not an overlay, or its property names no base")
        return wanted

    async def _launch(self, order: _Order, keys: Sequence[str]) -> StreamedReply:
        """Return the disk of a launch image from the site that sends it soonest, if it arrives sooner than the base would.

        Raises:
            Refused: there is no such overlay or launch image, or the base would arrive sooner.
            Unreachable: a service of this site, or the site with the launch image, does not answer.
        """
        client, wanted, rates = order.client, await self._wanted(order), self._bringer.images.rates
        if await claims_of(client, self._sites.here, wanted):
            raise Refused(404, "the overlay's base is at this site")
        claims, _away = await claims_elsewhere(client, wanted, self._trust)
        base_s = min((rates.seconds(claim.site, claim.size) for claim in claims), default=0.0)
        offers = await self._launches.offers(client, order.overlay, keys) if claims else []
        best = min(offers, key=lambda offer: rates.seconds(offer.site, offer.size), default=None)
        if best is None or (expected_s := rates.seconds(best.site, best.size)) >= base_s:
            raise Refused(404, "no site sends the launch image sooner than the overlay's base arrives")
        LOG.info(
            "%s: %s has a launch image of %d bytes, %.1f s away; the base, %.1f",
            client.request_id,
            best.site,
            best.size,
            expected_s,
            base_s,
        )
        answer = await self._launches.open(client, order.overlay, best)
        said = {KEY: best.key, SIZE: str(best.size), SECONDS: f"{expected_s:.1f}"}
        answer.headers = CIMultiDict({"Content-Type": "application/octet-stream", **said})
        return answer

    async def _first(self, client: ServiceClient, claims: Collection[Claim]) -> str | None:
        """Bring the first claimed image that can be brought, and return its id; `None` if no site has any of these images.

        Raises:
            BringRefused: none of these images can be brought.
        """
        refusal: BringRefused | None = None
        for claim in claims:
            try:
                brought = await self._bringer.bring([Reference(IMAGE, claim.image)], client.token, client.request_id)
            except BringRefused as error:
                refusal = refusal or error
                continue
            if brought is not None:
                brought.keep()
                LOG.info("%s: base %s brought, which %s has", client.request_id, claim.image, claim.site)
                return claim.image
        if refusal is not None:
            raise refusal
        return None


def _nowhere(wanted: WantedBase, wrong: Collection[str], away: Collection[str]) -> str:
    """Refuse a request for a base that no site has.

    Raises:
        Refused: always.
    """
    other = "another image that is" if wrong else "an image that you can use as"
    text = f"no site that can be reached has {other} the overlay's base {wanted.digest[:16]}"
    if away:
        shown = sorted(away)
        raise Refused(503, f"{text}, and {', '.join(shown[:3])}{' and others' if len(shown) > 3 else ''} can't be reached")
    raise Refused(404, text)


def _keys(body: bytes) -> list[str]:
    """Return the keys that a request's body names as trusted.

    Raises:
        Refused: the body is malformed.
    """
    try:
        said = json.loads(body)
        keys: list[str] = said["keys"] if said.keys() == {"keys"} and valid_keys(said["keys"]) else []
    except (ValueError, KeyError, AttributeError, RecursionError):
        keys = []
    if not keys:
        raise Refused(400, 'the body of the request is malformed: expected {"keys": [KEY, …]}')
    return keys


def _wrong(body: bytes) -> frozenset[str]:
    """Return the images that a request's body names as wrong.

    Raises:
        Refused: the body is malformed.
    """
    try:
        said = json.loads(body or b"{}")
        wrong = frozenset(said.get("wrong", []))
        valid = not said.keys() - {"wrong"} and len(wrong) <= MOST_WRONG and all(isinstance(each, str) and is_uuid(each) for each in wrong)
    except (ValueError, TypeError, AttributeError, RecursionError):
        valid, wrong = False, frozenset()
    if not valid:
        raise Refused(400, 'the body of the request is malformed: expected {"wrong": [IMAGE, …]} or nothing')
    return wrong

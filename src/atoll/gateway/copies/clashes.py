"""Finds names that two sites gave to different resources while they were separated, reports them, and prevents mix-ups.

A name that was used while a site could not be asked is recorded on disk. As soon as both sites can be reached, their resources of that name
are compared. If they differ, both are kept, like two users of one name in Keystone. All sites are informed, and `atoll conflicts` lists the
name until one of the two resources is deleted. Until then the name means the resource of the site whose gateway gets the request. A request
is refused if its name means one resource at the site that would carry it out, and another one at this gateway's site.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

import orjson
from aiohttp import web

from atoll.gateway.bring import references as kinds
from atoll.gateway.bring.references import references
from atoll.gateway.copies.conflicts import Conflicts
from atoll.gateway.copies.names import ASK_S, MAX_NAMES_BYTES, NameClaims, read
from atoll.gateway.faults import fault
from atoll.gateway.peer import peer_body
from atoll.gateway.private_database import opened
from atoll.gateway.request.call import Call, Reply, Unreachable, to_gateway
from atoll.gateway.request.headers import microversion
from atoll.gateway.resolve.routes import Route, match
from atoll.gateway.resolve.unique import FLAVOR_ID, KEY_PAIR, NAME_KINDS, USERS_OF_KEY_PAIRS, Name
from atoll.gateway.sites import Sites

LOG = logging.getLogger(__name__)

DESCRIBE = "/atoll/names/describe"
CLASH = "/atoll/names/clash"

DIFFERS = "X-Atoll-Differs"
"""Header that names the sites which have given the requested name to different resources."""

LOOK_S = 60.0
"""Seconds between two comparisons of the names that may clash."""

AGAIN_S = 2.0
"""Seconds until names are compared again if a reachable site did not answer, as may happen when it returns; doubled each time."""

MAX_REPORTED_NAMES = 10_000
"""Greatest number of names that are watched because other sites reported them. This site's own names are bounded by
quotas, because a name is watched no longer than its resource exists."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS suspect (
    kind TEXT NOT NULL, value TEXT NOT NULL, owner TEXT NOT NULL, one TEXT NOT NULL, other TEXT NOT NULL, clashes INTEGER NOT NULL,
    PRIMARY KEY (kind, value, owner, one, other)
);
"""


class Suspect(NamedTuple):
    """A name that two sites may have given to different resources.

    Attributes:
        name: the name.
        sites: both sites, sorted.
    """

    name: Name
    sites: tuple[str, str]


class NameClashes:
    """The names that this gateway watches.

    Args:
        sites: sends requests to the sites.
        conflicts: lists the clashes for operators.
        file: the SQLite file, in an existing directory; `:memory:` keeps nothing.
        durable: see `opened`.
    """

    def __init__(self, sites: Sites, conflicts: Conflicts, file: Path | str = ":memory:", *, durable: bool = True) -> None:
        self._database = opened(self, file, _SCHEMA, durable=durable)
        self._sites = sites
        self._conflicts = conflicts
        self.names = NameClaims(sites, self._note_unasked)
        self._wake = asyncio.Event()
        self._suspects = {
            Suspect(Name(*row[:3]), (row[3], row[4])): bool(row[5])
            for row in self._database.execute("SELECT kind, value, owner, one, other, clashes FROM suspect")
        }
        self._clashing = {suspect for suspect, clashes in self._suspects.items() if clashes}
        self._informed: dict[Suspect, set[str]] = {}

    def attach(self, application: web.Application) -> None:
        """Add the handlers of other gateways' requests to the application of the peer port."""
        self.names.attach(application)
        application.router.add_post(DESCRIBE, self._describe)
        application.router.add_post(CLASH, self._told)

    def close(self) -> None:
        """Close the database file."""
        self._database.close()

    # The watched names

    def _note_unasked(self, names: Sequence[Name], silent: Sequence[str]) -> None:
        for name in names:
            for site in silent:
                self._watch(_suspect(name, self._sites.here, site))

    def _watch(self, suspect: Suspect, *, clashes: bool = False) -> None:
        if self._suspects.get(suspect) is not clashes:
            self._suspects[suspect] = clashes
            name = suspect.name
            row = (name.kind, name.value, name.owner, *suspect.sites, clashes)
            self._database.execute("INSERT OR REPLACE INTO suspect VALUES (?, ?, ?, ?, ?, ?)", row)
            (self._clashing.add if clashes else self._clashing.discard)(suspect)
        if not clashes:
            self._wake.set()

    def _forget(self, suspect: Suspect) -> None:
        name = suspect.name
        values = (name.kind, name.value, name.owner, *suspect.sites)
        self._database.execute("DELETE FROM suspect WHERE kind = ? AND value = ? AND owner = ? AND one = ? AND other = ?", values)
        self._clashing.discard(suspect)
        self._informed.pop(suspect, None)
        if self._suspects.pop(suspect, False) and not self.between(name):
            self._conflicts.resolve(name.kind, _told_as(name))

    def forget(self, site: str) -> None:
        """Stop watching the names of a site that has left or was revoked."""
        for suspect in [each for each in self._suspects if site in each.sites]:
            self._forget(suspect)

    def wake(self, *_ignored: object) -> None:
        """Compare the names now; a callback for `Mesh.on_members`."""
        self._wake.set()

    def on_write(self, call: Call) -> None:
        """Schedule a comparison after a deletion, which may end a clash.

        Args:
            call: a request that this site's service has carried out.
        """
        if not self._suspects or call.method != "DELETE":
            return
        route = match(call.method, call.service, call.path)
        name = None if route.child else _named(call, route)
        gone = [_suspect(name, self._sites.here, site) for site in self._sites.others()] if name is not None else []
        for suspect in gone:
            if self._suspects.get(suspect) is False:
                self._forget(suspect)
        self._wake.set()

    async def run(self) -> None:
        """Compare the watched names whenever one may have changed, until cancelled."""
        again_s = AGAIN_S
        while True:
            self._wake.clear()
            complete = await self.compare()
            try:
                async with asyncio.timeout(LOOK_S if complete else again_s):
                    await self._wake.wait()
            except TimeoutError:
                again_s = AGAIN_S if complete else min(2 * again_s, LOOK_S)
            else:
                again_s = AGAIN_S

    async def compare(self) -> bool:
        """Compare the resources of both sites under each watched name, and inform all sites of the names that clash.

        Returns:
            `False` if a reachable site did not answer, so that the comparison must be repeated.
        """
        complete = True
        for suspect in list(self._suspects):
            if not {self._sites.here, *self._sites.reachable()} >= set(suspect.sites):
                continue
            try:
                one, other = await asyncio.gather(*(self._description(site, suspect.name) for site in suspect.sites))
            except Unreachable as error:
                LOG.info("can't compare the resources named %s: %s", suspect.name, error)
                complete = False
                continue
            if one is None or other is None or one == other:
                clashed = self._suspects.get(suspect)
                self._forget(suspect)
                if clashed:
                    await self._inform(suspect, self._sites.reachable())
            elif not self._suspects.get(suspect):
                self._found(suspect)
        return await self._inform_all() and complete

    def _found(self, suspect: Suspect) -> None:
        """Record that two sites have given a name to different resources."""
        name = suspect.name
        self._watch(suspect, clashes=True)
        why = f"{' and '.join(suspect.sites)} have given this name to different resources: delete or replace one of them"
        self._conflicts.note(name.kind, _told_as(name), suspect.sites, why)

    async def _inform_all(self) -> bool:
        """Inform the reachable sites of each clash of which they have not been informed yet; return whether all have confirmed."""
        complete = True
        for suspect in list(self._clashing):
            informed = self._informed.setdefault(suspect, set())
            sites = [site for site in self._sites.reachable() if site not in informed]
            informed |= await self._inform(suspect, sites)
            complete = complete and informed >= set(sites)
        return complete

    async def _inform(self, suspect: Suspect, sites: Sequence[str]) -> set[str]:
        """Have sites check a name whose clash has begun or ended; return the sites that confirmed."""
        name = suspect.name
        body = {"names": [[name.kind, name.value, name.owner]], "sites": suspect.sites}
        replies = await asyncio.gather(*(self._send(site, CLASH, body) for site in sites), return_exceptions=True)
        return {site for site, reply in zip(sites, replies, strict=True) if isinstance(reply, Reply) and reply.ok}

    async def _description(self, site: str, name: Name) -> Mapping[str, Any] | None:
        if site == self._sites.here:
            return await self.names.describe(name)
        reply = await self._send(site, DESCRIBE, {"names": [[name.kind, name.value, name.owner]]})
        try:
            found = reply.json()["found"]
            return None if found is None else dict(found)
        except (ValueError, KeyError, TypeError) as error:
            raise Unreachable(site, f"its gateway does not describe its resource (HTTP {reply.status})") from error

    async def _send(self, site: str, path: str, body: Any) -> Reply:
        call = to_gateway("POST", path).with_(json=body)
        return await self._sites.send(site, call, ASK_S)

    async def _describe(self, request: web.Request) -> web.StreamResponse:
        try:
            (name,) = read(orjson.loads(await peer_body(request, MAX_NAMES_BYTES))["names"])
            found = await self.names.describe(name)
        except (ValueError, KeyError, TypeError) as error:
            raise web.HTTPBadRequest(text="expected a JSON object with one name") from error
        except Unreachable as error:
            raise web.HTTPServiceUnavailable(text=str(error)) from error
        return web.json_response({"found": found and dict(found)})

    async def _told(self, request: web.Request) -> web.StreamResponse:
        """Handle another site's notice that a clash has begun or ended: this gateway compares the resources itself."""
        try:
            said = orjson.loads(await peer_body(request, MAX_NAMES_BYTES))
            (name,), (one, other) = read(said["names"]), map(str, said["sites"])
        except (ValueError, KeyError, TypeError) as error:
            raise web.HTTPBadRequest(text="expected a JSON object with one name and two sites") from error
        suspect, known = _suspect(name, one, other), {self._sites.here, *self._sites.others()}
        if suspect in self._suspects:
            self._wake.set()
        elif {one, other} <= known:
            if len(self._suspects) >= MAX_REPORTED_NAMES:
                raise web.HTTPServiceUnavailable(text=f"this gateway already watches {MAX_REPORTED_NAMES} names that other sites reported")
            self._watch(suspect)
        return web.json_response({})

    # The effect on requests

    def between(self, name: Name) -> tuple[str, ...]:
        """Return the sites that have given a name to different resources; none if all agree."""
        return tuple(sorted({site for each in self._clashing if each.name == name for site in each.sites}))

    def owner(self, call: Call, route: Route) -> str | None:
        """Return the user to whom the name in a request belongs: empty for names of all users, `None` if the request has no such name.

        Args:
            call: the client's request.
            route: the request's route.
        """
        name = _named(call, route)
        return None if name is None else name.owner

    def sites_for(self, call: Call, route: Route, everywhere: Sequence[str], scope: Sequence[str] | None) -> list[str] | Reply:
        """Return the sites that a change of a resource with copies concerns, without those where its name means another resource.

        Args:
            call: the client's request.
            route: the request's route.
            everywhere: all sites.
            scope: the sites that the client named; `None` if it named none.

        Returns:
            The sites; or 409 if the name is ambiguous.
        """
        name = _named(call, route)
        differing = self.between(name) if name is not None else ()
        if name is None or not differing:
            return list(everywhere)
        if scope is not None and len(scope) == 1:
            return list(scope)
        if self._sites.here in differing:
            return [site for site in everywhere if site not in differing or site == self._sites.here]
        return self._ambiguous(call, name, differing)

    def refusal(self, call: Call, site: str) -> Reply | None:
        """Return 409 if a name in a request means different resources at its site and at this gateway.

        Args:
            call: the client's request.
            site: the site that carries it out.
        """
        if not self._clashing or call.service != "compute":
            return None
        for reference in references(call):
            name = {kinds.KEY_PAIR: Name(KEY_PAIR, reference.id, call.user or ""), kinds.FLAVOR: Name(FLAVOR_ID, reference.id)}.get(
                reference.kind
            )
            differing = self.between(name) if name is not None else ()
            if name is not None and differing and not (site == self._sites.here and site in differing):
                return self._ambiguous(call, name, differing)
        return None

    def mark(self, call: Call, route: Route, reply: Any) -> None:
        """Add the differing sites to an answer about a name that clashes, if the client may see the resource."""
        if not self._clashing or reply.status >= 400:
            return
        name = _named(call, route)
        owner = call.user or ""
        key = route.resource.key if route.resource is not None and route.resource.service == "compute" else ""
        kind = {"keypairs": KEY_PAIR, "flavors": FLAVOR_ID}.get(key, "")
        concerned = (
            [name]
            if name is not None
            else [each.name for each in self._clashing if each.name.kind == kind and each.name.owner in {"", owner}]
        )
        differing = sorted({site for each in concerned for site in self.between(each)})
        if differing:
            reply.headers[DIFFERS] = ",".join(differing)

    def _ambiguous(self, call: Call, name: Name, differing: Iterable[str]) -> Reply:
        kind = NAME_KINDS[name.kind].key.replace("keypair", KEY_PAIR) or name.kind
        message = (
            f"{kind} {name.value} is not the same at {' and '.join(differing)}: delete it at one of them, with a scope that names the site"
        )
        return fault(call.service, 409, message[0].upper() + message[1:], self._sites.here)


def _suspect(name: Name, one: str, other: str) -> Suspect:
    first, second = sorted((one, other))
    return Suspect(name, (first, second))


def _told_as(name: Name) -> str:
    return f"{name.value} of user {name.owner}" if name.owner else name.value


def _named(call: Call, route: Route) -> Name | None:
    """Return the cloud-wide name by which a request identifies its resource; `None` if it uses an id, or a name that the service chose."""
    if route.resource is None or route.resource.service != "compute" or not route.id:
        return None
    if route.resource.key == "keypairs":
        asked = dict(parse_qsl(call.query)) if microversion(call.headers) >= USERS_OF_KEY_PAIRS else {}
        return Name(KEY_PAIR, unquote(route.id), asked.get("user_id") or call.user or "")
    return Name(FLAVOR_ID, unquote(route.id)) if route.resource.key == "flavors" else None

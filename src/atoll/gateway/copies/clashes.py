"""Finds names that two sites gave to different things while they were apart, tells the operator, and keeps them from being mistaken.

What was made while a site could not be asked is noted on the disk. As soon as both sites can be reached, what they have under the name is
compared. If it differs, both are kept, as two users of one name are, all sites are told, and `atoll conflicts` lists it until one of the
two is gone. Until then the name means what the gateway that is asked has at its own site; a request that would mean something else than
what that gateway shows is refused.
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
from multidict import CIMultiDict

from atoll.gateway.bring import references as kinds
from atoll.gateway.bring.references import references
from atoll.gateway.copies.conflicts import Conflicts
from atoll.gateway.copies.names import ASK_S, Names, limited, read
from atoll.gateway.faults import fault
from atoll.gateway.private_database import opened
from atoll.gateway.request.call import Call, Reply, Unreachable
from atoll.gateway.request.headers import microversion, request_id
from atoll.gateway.resolve.routes import Route, match
from atoll.gateway.resolve.unique import FLAVOR_ID, KEY_PAIR, KINDS, USERS_OF_KEY_PAIRS, Name
from atoll.gateway.sites import Sites

LOG = logging.getLogger(__name__)

DESCRIBE = "/atoll/names/describe"
CLASH = "/atoll/names/clash"

DIFFERS = "X-Atoll-Differs"
"""Header of an answer about a name that sites have given to different things: those sites."""

LOOK_S = 60.0
"""Seconds between two looks at what sites have under names that may clash."""

MOST = 10_000
"""Names that are watched since other sites have told of them. Those of this site are bounded by quotas: who deletes what has a name ends
that it is watched."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS suspect (
    kind TEXT NOT NULL, value TEXT NOT NULL, owner TEXT NOT NULL, one TEXT NOT NULL, other TEXT NOT NULL, clashes INTEGER NOT NULL,
    PRIMARY KEY (kind, value, owner, one, other)
);
"""


class Suspect(NamedTuple):
    """A name that two sites may have given to different things.

    Attributes:
        name: the name.
        sites: both sites, sorted.
    """

    name: Name
    sites: tuple[str, str]


class Clashes:
    """The names that this gateway watches.

    Args:
        sites: to ask.
        conflicts: where clashes are told.
        file: the SQLite file; its directory exists. `:memory:` keeps nothing.
        durable: see `opened`.
    """

    def __init__(self, sites: Sites, conflicts: Conflicts, file: Path | str = ":memory:", *, durable: bool = True) -> None:
        self._database = opened(self, file, _SCHEMA, durable=durable)
        self._sites = sites
        self._conflicts = conflicts
        self.names = Names(sites, self._note_unasked)
        self._wake = asyncio.Event()
        self._suspects = {
            Suspect(Name(*row[:3]), (row[3], row[4])): bool(row[5])
            for row in self._database.execute("SELECT kind, value, owner, one, other, clashes FROM suspect")
        }
        self._clashing = {suspect for suspect, clashes in self._suspects.items() if clashes}

    def attach(self, application: web.Application) -> None:
        """Add the handlers to the application of the peer port."""
        self.names.attach(application)
        application.router.add_post(DESCRIBE, self._describe)
        application.router.add_post(CLASH, self._told)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    # What is watched

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
        if self._suspects.pop(suspect, False) and not self.between(name):
            self._conflicts.resolve(name.kind, _told_as(name))

    def forget(self, site: str) -> None:
        """Watch no more what a site has that has left or was revoked."""
        for suspect in [each for each in self._suspects if site in each.sites]:
            self._forget(suspect)

    def wake(self, *_ignored: object) -> None:
        """Compare at once; fit for `Mesh.on_members`."""
        self._wake.set()

    def on_write(self, call: Call) -> None:
        """Compare again after a write that may end a clash; what is gone here can't become one.

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
        """Compare, until cancelled."""
        while True:
            self._wake.clear()
            await self.compare()
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def compare(self) -> None:
        """Compare what sites have under all names that are watched."""
        there = {self._sites.here, *self._sites.reachable()}
        for suspect in [each for each in self._suspects if there >= set(each.sites)]:
            try:
                one, other = await asyncio.gather(*(self._description(site, suspect.name) for site in suspect.sites))
            except Unreachable as error:
                LOG.info("what %s has can't be compared: %s", suspect.name, error)
                continue
            if one is None or other is None or one == other:
                clashed = self._suspects.get(suspect)
                self._forget(suspect)
                if clashed:
                    await self._tell(suspect)
            elif not self._suspects.get(suspect):
                await self._found(suspect)

    async def _found(self, suspect: Suspect) -> None:
        """Two sites have given a name to different things: note it, and tell all."""
        name = suspect.name
        self._watch(suspect, clashes=True)
        why = f"{' and '.join(suspect.sites)} have given this name to different things: delete or replace one of them"
        self._conflicts.note(name.kind, _told_as(name), suspect.sites, why)
        await self._tell(suspect)

    async def _tell(self, suspect: Suspect) -> None:
        """Have all sites look at a name that has begun, or ceased, to clash."""
        name = suspect.name
        body = {"names": [[name.kind, name.value, name.owner]], "sites": suspect.sites}
        await asyncio.gather(*(self._send(site, CLASH, body) for site in self._sites.reachable()), return_exceptions=True)

    async def _description(self, site: str, name: Name) -> Mapping[str, Any] | None:
        if site == self._sites.here:
            return await self.names.describe(name)
        reply = await self._send(site, DESCRIBE, {"names": [[name.kind, name.value, name.owner]]})
        try:
            found = reply.json()["found"]
            return None if found is None else dict(found)
        except (ValueError, KeyError, TypeError) as error:
            raise Unreachable(site, f"its gateway does not say what it has (HTTP {reply.status})") from error

    async def _send(self, site: str, path: str, body: Any) -> Reply:
        call = Call("POST", "atoll", path.removeprefix("/atoll"), "", CIMultiDict(), None, request_id(None)).with_(json=body)
        return await self._sites.send(site, call, ASK_S)

    async def _describe(self, request: web.Request) -> web.StreamResponse:
        try:
            (name,) = read(orjson.loads(await limited(request))["names"])
            found = await self.names.describe(name)
        except (ValueError, KeyError, TypeError) as error:
            raise web.HTTPBadRequest(text="expected one name") from error
        except Unreachable as error:
            raise web.HTTPServiceUnavailable(text=str(error)) from error
        return web.json_response({"found": found and dict(found)})

    async def _told(self, request: web.Request) -> web.StreamResponse:
        """Another site has found that a clash has begun or ended; this gateway looks itself whether there is one."""
        try:
            said = orjson.loads(await limited(request))
            (name,), (one, other) = read(said["names"]), map(str, said["sites"])
        except (ValueError, KeyError, TypeError) as error:
            raise web.HTTPBadRequest(text="expected one name and two sites") from error
        suspect, known = _suspect(name, one, other), {self._sites.here, *self._sites.others()}
        if suspect in self._suspects:
            self._wake.set()
        elif {one, other} <= known:
            if len(self._suspects) >= MOST:
                raise web.HTTPServiceUnavailable(text="too many names are watched")
            self._watch(suspect)
        return web.json_response({})

    # What it means for requests

    def between(self, name: Name) -> tuple[str, ...]:
        """Return the sites that have given a name to different things; none if all agree."""
        return tuple(sorted({site for each in self._clashing if each.name == name for site in each.sites}))

    def owner(self, call: Call, route: Route) -> str | None:
        """Return the user whose name of the whole cloud a request is about, empty for names of all users; `None` if it is about none.

        Args:
            call: the client's.
            route: of the request.
        """
        name = _named(call, route)
        return None if name is None else name.owner

    def sites_for(self, call: Call, route: Route, everywhere: Sequence[str], scope: Sequence[str] | None) -> list[str] | Reply:
        """Return the sites that a change of what has copies concerns: not those that have something else under the name.

        Args:
            call: the client's.
            route: of the request.
            everywhere: all sites.
            scope: the sites that the client named.

        Returns:
            The sites; or 409 if the name means nothing definite.
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
        """Return 409 if a request refers to a name that means something else at its site than what this gateway shows.

        Args:
            call: the client's.
            site: where it is carried out.
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
        """Say in an answer about a name which sites have given it to different things, to whoever may see what has it."""
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
        kind = KINDS[name.kind].key.replace("keypair", KEY_PAIR) or name.kind
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
    """Return the name of the whole cloud that a request is about, if it is about one that a client chooses."""
    if route.resource is None or route.resource.service != "compute" or not route.id:
        return None
    if route.resource.key == "keypairs":
        asked = dict(parse_qsl(call.query)) if microversion(call.headers) >= USERS_OF_KEY_PAIRS else {}
        return Name(KEY_PAIR, unquote(route.id), asked.get("user_id") or call.user or "")
    return Name(FLAVOR_ID, unquote(route.id)) if route.resource.key == "flavors" else None

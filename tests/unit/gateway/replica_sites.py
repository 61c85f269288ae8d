"""Sites with small services behind real servers (HTTP on loopback), for tests of resources at several sites."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from atoll.gateway.copies.in_use import InUseCheck
from atoll.gateway.copies.pending_operation import PendingOperation
from atoll.gateway.copies.perform import Performer
from atoll.gateway.groups import Groups
from atoll.gateway.request.call import GATEWAY, Call, Reply, Unreachable
from atoll.gateway.request.headers import ACCEPTS
from atoll.gateway.resolve.routes import Resource
from atoll.mesh.record import Change, Record

USER, ADMIN = "user's token", "admin's token"
PROJECT = "project"

REQUESTERS: dict[str, dict[str, Any]] = {
    USER: {"user": {"id": "user"}, "project": {"id": PROJECT}, "roles": [{"name": "member"}]},
    ADMIN: {"user": {"id": "admin"}, "project": {"id": "admin"}, "roles": [{"name": "admin"}]},
}
"""Keystone's confirmation of each token."""


def _fits(port: dict[str, Any], query: Mapping[str, str]) -> bool:
    """Return whether a port fits the query of a list, as Neutron filters."""
    name, value = next((name, value) for name, value in query.items() if name != "fields")
    if name == "fixed_ips":
        return value in [f"subnet_id={each['subnet_id']}" for each in port.get("fixed_ips", ())]
    return value in port.get(name, ())


def _project(token: str) -> str:
    """Return the project of a token; empty for an administrator's, who sees everything."""
    said = REQUESTERS.get(token, {"project": {"id": "?"}, "roles": []})
    return "" if {"name": "admin"} in said["roles"] else str(said["project"]["id"])


class Service:
    """One site's services: records its requests, and keeps resources by path."""

    def __init__(self, site: str) -> None:
        self.site = site
        self.things: dict[str, dict[str, Any]] = {}
        self.data: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.refuse: dict[tuple[str, str], int] = {}
        self.hang: asyncio.Event | None = None
        application = web.Application(client_max_size=1 << 30)
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application)
        self.url = ""

    async def start(self) -> None:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        await self._runner.cleanup()

    def writes(self) -> list[tuple[str, str]]:
        """Return the requests other than GET."""
        return [(method, path) for method, path, _ in self.asked if method != "GET"]

    def of(self, collection: str) -> list[dict[str, Any]]:
        """Return the resources of a collection."""
        return [thing for path, thing in self.things.items() if path.rsplit("/", 1)[0].endswith(collection)]

    async def _answer(self, request: web.Request) -> web.Response:
        path = request.path
        self.asked.append((request.method, path, request.headers.get("X-Auth-Token", "")))
        self.headers.append(dict(request.headers))
        if self.hang is not None and request.method != "GET":
            await self.hang.wait()
        for (method, pattern), status in self.refuse.items():
            if method == request.method and re.search(pattern, path):
                return web.json_response({"error": {"code": status, "message": f"refused by {self.site}"}}, status=status)
        project = _project(request.headers.get("X-Auth-Token", ""))
        others = self.things.get(path, {}).get("of")  # another user's key pair
        hidden = project and self.owner(path) not in {"", project} and not self.things.get(path, {}).get("shared")
        if hidden or (others and request.query.get("user_id") != others):
            return web.json_response({}, status=404)
        if path.endswith("/file"):
            return await self._file(request)
        number = self.things.get(path, {}).get("revision_number")
        asked_for = request.headers.get("If-Match", f"revision_number={number}").strip('"')
        if request.method in {"PUT", "DELETE"} and asked_for != f"revision_number={number}":
            return web.json_response({"error": {"code": 412, "message": f"revision is {number} at {self.site}"}}, status=412)
        body = json.loads(await request.read() or b"null")
        if request.method == "GET":
            return self._get(path, body, request.query)
        return {"POST": self._post, "DELETE": self._delete}.get(request.method, self._change)(path, body)

    def owner(self, path: str) -> str:
        """Return the project that owns a resource; empty if there is no resource."""
        found = [thing for key, thing in self.things.items() if path == key or path.startswith(f"{key}/")]
        return str(found[0].get("owner") or found[0].get("project_id") or PROJECT) if found else ""

    async def _file(self, request: web.Request) -> web.Response:
        path = request.path.removesuffix("/file")
        if request.method == "PUT":
            self.data[path] = await request.read()
            self.things[path]["status"] = "active"
            return web.Response(status=204)
        return web.Response(body=self.data[path]) if path in self.data else web.Response(status=204)

    def _post(self, path: str, body: dict[str, Any]) -> web.Response:
        if path.endswith("/action"):
            return web.Response(status=202 if path.removesuffix("/action") in self.things else 404)
        if isinstance(several := next(iter(body.values())), list):
            return self._post_several(path, next(iter(body)), several)
        item = next(iter(body)) if isinstance(next(iter(body.values())), dict) else ""
        thing = dict(body[item] if item else body)
        thing.setdefault("id", str(uuid.uuid4()))
        thing.setdefault("project_id", "project")
        thing.setdefault("metadata", {})
        if item == "keypair":
            thing.setdefault("public_key", f"made at {self.site}")
        if item == "subnet":
            thing |= {"gateway_ip": "10.0.0.1", "allocation_pools": []}
            thing.setdefault("cidr", f"10.0.{len(self.site)}.0/24")
        if item == "":
            thing["status"] = "queued"
        key = f"{path}/{thing['name'] if item == 'keypair' else thing['id']}"
        if key in self.things:
            return web.json_response({"conflictingRequest": {"code": 409, "message": "there is one"}}, status=409)
        self.things[key] = thing
        return web.json_response({item: thing} if item else thing, status=201)

    def _post_several(self, path: str, key: str, bodies: list[dict[str, Any]]) -> web.Response:
        answers = [self._post(path, {key.removesuffix("s"): body}) for body in bodies]
        failed = next((answer for answer in answers if answer.status >= 400), None)
        made = [next(iter(json.loads(answer.body).values())) for answer in answers]
        return failed or web.json_response({key: made}, status=201)

    def _get(self, path: str, _body: object, query: Mapping[str, str] = {}) -> web.Response:
        if path in {"/v2.0/ports", "/v2.0/floatingips"}:
            collection = path.rpartition("/")[2]
            return web.json_response({collection: [each for each in self.of(collection) if _fits(each, query)]})
        if path.endswith("/detail"):
            servers = [{"tenant_id": PROJECT, **server} for server in self.of(path.removesuffix("/detail"))]
            return web.json_response({"servers": servers})
        return self._found(path, {**self.things.get(path, {}), "site": self.site})

    def _change(self, path: str, body: dict[str, Any]) -> web.Response:
        if path in self.things:
            self.things[path] |= body if "/v2.0/" not in path else next(iter(body.values()))
            if "revision_number" in self.things[path]:
                self.things[path]["revision_number"] += 1
        return self._found(path, {**self.things.get(path, {}), "site": self.site})

    def _delete(self, path: str, _body: object) -> web.Response:
        return web.Response(status=204 if self.things.pop(path, None) is not None else 404)

    def _found(self, path: str, answer: dict[str, Any]) -> web.Response:
        """Return the resource under its key, as Nova and Neutron do, and also without it, which tests read more easily."""
        if path not in self.things:
            return web.json_response({}, status=404)
        owner = self.owner(path)
        owned = {"owner": owner, "project_id": owner, "tenant_id": owner, "user_id": "user", **answer}
        return web.json_response(owned if "/images/" in path else {"item": owned, **answer})


class StreamedReply:
    """An answer whose head has arrived."""

    def __init__(self, response: aiohttp.ClientResponse, site: str) -> None:
        self._response = response
        self.status = response.status
        self.site = site

    def pieces(self) -> AsyncIterator[bytes]:
        return self._response.content.iter_any()

    async def read(self) -> Reply:
        return Reply(self.status, CIMultiDict(self._response.headers), await self._response.read(), self.site)

    def close(self) -> None:
        self._response.close()


class Sites:
    """A double of `atoll.gateway.sites.Sites`. A site may be cut off, or its answers may get lost."""

    groups = Groups("", {})

    def __init__(self, *names: str) -> None:
        self.here = names[0]
        self.services = {name: Service(name) for name in names}
        self.cut: set[str] = set()
        self.mute: set[str] = set()
        self.there: dict[str, Performer] = {}
        self.users: dict[str, list[str]] = {}
        """The sites at which projects use the resources that a site shares, by that site."""
        self._session: aiohttp.ClientSession | None = None

    def __getitem__(self, site: str) -> Service:
        return self.services[site]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Sites]:
        async with aiohttp.ClientSession() as self._session:
            for service in self.services.values():
                await service.start()
            try:
                yield self
            finally:
                for service in self.services.values():
                    await service.stop()

    def everywhere(self, _service: str = "") -> list[str]:
        return list(self.services)

    def reachable(self, _service: str = "") -> list[str]:
        return [site for site in self.services if site not in self.cut and site != self.here]

    def holders(self, sites: Iterable[str], _service: str) -> list[str]:
        return list(dict.fromkeys(sites))

    def near_first(self, sites: list[str]) -> list[str]:
        return [site for site in self.services if site in sites]

    async def own_token(self, service: str) -> str:
        return ADMIN

    async def send(self, site: str, call: Call, timeout_s: float = 30.0) -> Reply:
        async with asyncio.timeout(timeout_s):
            return await (await self.open(site, call)).read()

    async def make(self, site: str, call: Call, _resource: Resource) -> Reply:
        """Create at a site, as `Creations.at` does."""
        return await self.send(site, call)

    async def open(self, site: str, call: Call) -> StreamedReply:
        assert self._session is not None
        if site in self.cut:
            raise Unreachable(site, "cut off", sent=False)
        if call.service == "identity":
            return Given(Reply(200, CIMultiDict(), json.dumps({"token": REQUESTERS[call.token]}).encode(), site))
        if ACCEPTS in call.headers:
            return Given(await InUseCheck(View(self, site)).answer(call, Shared(self.users.get(site, []))))
        if call.service == GATEWAY:
            return Given(await self._operation(site, call))
        response = await self._session.request(call.method, self[site].url + call.target, headers=call.headers, data=call.body)
        if site in self.mute:
            response.close()
            raise Unreachable(site, "its answer got lost")
        return StreamedReply(response, site)

    async def _operation(self, site: str, call: Call) -> Reply:
        """Answer an operation as another site's gateway does."""
        if not self.there:
            self.there = {name: Performer(View(self, name)) for name in self.services}
        outcome = await self.there[site].perform(PendingOperation.load(call.json()))
        return Reply(200, CIMultiDict(), json.dumps(asdict(outcome)).encode(), site)


class Given:
    """An answer that has already been read."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    async def read(self) -> Reply:
        return self._reply


class Shared:
    """The sites at which projects use the resources that one site shares."""

    def __init__(self, users: list[str]) -> None:
        self._users = users

    async def users_of_network(self, _identifier: str, _owner: str) -> list[str]:
        return self._users


class View:
    """Another site's gateway's view of the sites, in which that site is `here`."""

    def __init__(self, sites: Sites, here: str) -> None:
        self.here = here
        self._sites = sites

    async def own_token(self, service: str) -> str:
        return ADMIN

    async def send(self, site: str, call: Call, timeout_s: float = 30.0) -> Reply:
        return await self._sites.send(site, call, timeout_s)


class Notes:
    """A double of the mesh's document, without other sites."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, str], Record] = {}
        self._callbacks: list[Any] = []

    def record(self, kind: str, key: str) -> Record | None:
        return self._records.get((kind, key))

    def records(self, kind: str) -> Iterator[Record]:
        yield from [record for (of, _), record in self._records.items() if of == kind and record.present]

    def write(self, changes: Any) -> None:
        for change in changes:
            assert isinstance(change, Change)
            old = self._records.get((change.kind, change.key))
            fields = {**(old.fields if old else {}), **change.fields}
            self._records[change.kind, change.key] = Record(change.kind, change.key, fields, {}, {})
            for callback in self._callbacks:
                callback(frozenset([(change.kind, change.key)]))

    def on_change(self, callback: Any) -> None:
        self._callbacks.append(callback)


def call(method: str, path: str, body: Any = None, service: str = "compute", query: str = "", **headers: str) -> Call:
    """Return a client's request."""
    said = CIMultiDict({"X-Auth-Token": USER, **({"Content-Type": "application/json"} if body is not None else {}), **headers})
    data = body if body is None or isinstance(body, bytes) or hasattr(body, "__aiter__") else json.dumps(body).encode()
    return Call(method, service, path, query, said, data, "req-1")

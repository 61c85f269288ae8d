"""A cloud in memory: real gateways, and services that follow the rules of Glance, Neutron and Nova about rights."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web
from multidict import CIMultiDict
from no_parts import collaborators
from replica_sites import Notes

from atoll.gateway.bring import Bringer, Keeper
from atoll.gateway.bring.keeper import KIND, wanted
from atoll.gateway.bring.pull import PullFailed
from atoll.gateway.bring.service_client import BringFailed
from atoll.gateway.copies.conflicts import Conflicts
from atoll.gateway.copies.create import CreateAt
from atoll.gateway.copies.pending import Pending
from atoll.gateway.copies.perform import Performer
from atoll.gateway.copies.replicas import ReplicatedResources
from atoll.gateway.gateway import Gateway
from atoll.gateway.groups import Groups
from atoll.gateway.peer import PEER
from atoll.gateway.request.call import GATEWAY, Call, Reply, Unreachable
from atoll.gateway.request.headers import GIVEN_ID

NAMES = ("brest", "metz", "pau")


@dataclass(frozen=True)
class Caller:
    """The user and project for which a service takes a token."""

    project: str
    admin: bool = False
    vouched: bool = False


@dataclass
class Services:
    """The resources of one site's Glance, Neutron and Nova."""

    site: str
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    data: dict[str, bytes] = field(default_factory=dict)
    members: dict[str, set[str]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    networks: dict[str, dict[str, Any]] = field(default_factory=dict)
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)

    def sees_image(self, who: Caller, image: dict[str, Any]) -> bool:
        if who.admin or image["owner"] == who.project or image["visibility"] in {"public", "community"}:
            return True
        return image["visibility"] == "shared" and who.project in self.members.get(image["id"], ())

    def sees_network(self, who: Caller, network: dict[str, Any]) -> bool:
        shared = any(each["object_id"] == network["id"] and each["target_tenant"] == who.project for each in self.policies.values())
        return who.admin or network["project_id"] == who.project or shared

    def handle(self, who: Caller, call: Call, body: bytes) -> tuple[int, Any]:
        said = json.loads(body) if body and not call.path.endswith("/file") else None
        parts = call.path.strip("/").split("/")[1:]
        handler = {
            "images": self._image,
            "networks": self._network,
            "rbac-policies": self._policy,
            "servers": self._server,
            "ports": self._port,
        }
        if parts[0] not in handler:
            return (200, {parts[0].replace("-", "_"): []}) if call.method == "GET" else (404, {})
        return handler[parts[0]](who, call, parts[1:], said if said is not None else body)

    # Glance

    def _image(self, who: Caller, call: Call, parts: list[str], said: Any) -> tuple[int, Any]:
        if not parts:
            return self._new_image(who, said) if call.method == "POST" else (200, {"images": [], "first": "", "schema": ""})
        image = self.images.get(parts[0])
        if image is None or not self.sees_image(who, image):
            return 404, {}
        mine = who.admin or image["owner"] == who.project
        if len(parts) > 1:
            return (self._file if parts[1] == "file" else self._members)(who, call, image, parts[2:], said, mine=mine)
        if call.method == "GET":
            return 200, dict(image)
        if not mine:
            return 403, {}
        if call.method == "DELETE":
            del self.images[image["id"]]
            self.data.pop(image["id"], None)
            self.members.pop(image["id"], None)
            return 204, None
        for change in said:
            if change["path"] == "/visibility" and change["value"] == "public" and not who.admin:
                return 403, {}
            image[change["path"][1:]] = change["value"]
        return 200, dict(image)

    def _new_image(self, who: Caller, said: dict[str, Any]) -> tuple[int, Any]:
        if "id" in said and not who.admin and not who.vouched:
            return 403, {}
        image = {"id": str(uuid.uuid4()), "owner": who.project, "visibility": "shared", **said, "status": "queued"}
        if (image["owner"] != who.project or image["visibility"] == "public") and not who.admin:
            return 403, {}
        if image["id"] in self.used:
            return 409, {}
        self.used.add(image["id"])
        self.images[image["id"]] = image | {"disk_format": "raw", "container_format": "bare", "size": None, "os_hash_value": None}
        return 201, dict(self.images[image["id"]])

    def _file(self, _who: Caller, call: Call, image: dict[str, Any], _rest: list[str], said: bytes, *, mine: bool) -> tuple[int, Any]:
        if call.method == "GET":
            whole = self.data.get(image["id"])
            if whole is None:
                return 204, None
            if "Range" not in call.headers:
                return 200, whole
            first, last = map(int, call.headers["Range"].removeprefix("bytes=").split("-"))
            return 206, whole[first : last + 1]
        if not mine:
            return 403, {}
        if image["status"] != "queued":
            return 409, {}
        self.data[image["id"]] = said
        hashed = {"os_hash_algo": "sha512", "os_hash_value": hashlib.sha512(said).hexdigest()}
        image |= {"status": "active", "size": len(said), **hashed}
        return 204, None

    def _members(self, who: Caller, call: Call, image: dict[str, Any], rest: list[str], said: Any, *, mine: bool) -> tuple[int, Any]:
        members = self.members.setdefault(image["id"], set())
        if call.method == "GET":
            return 200, {"members": [{"member_id": each} for each in members if mine or each == who.project]}
        if call.method == "PUT":
            return (200, {}) if rest[0] in members and (who.admin or rest[0] == who.project) else (404, {})
        if not mine or image["visibility"] != "shared":
            return 403, {}
        if call.method == "DELETE":
            found = rest[0] in members
            members.discard(rest[0])
            return (204, None) if found else (404, {})
        if said["member"] in members:
            return 409, {}
        members.add(said["member"])
        return 200, {"member_id": said["member"]}

    # Neutron

    def _network(self, who: Caller, call: Call, parts: list[str], said: Any) -> tuple[int, Any]:
        if not parts:
            if call.method == "GET":
                return 200, {"networks": [each for each in self.networks.values() if self.sees_network(who, each)]}
            body = said["network"]
            if "id" in body and not who.admin and not who.vouched:
                return 403, {}
            if body.get("project_id", who.project) != who.project and not who.admin:
                return 400, {}
            network = {"id": str(uuid.uuid4()), "project_id": who.project, "name": "", "shared": False, **body}
            if network["id"] in self.networks:
                return 409, {}
            self.networks[network["id"]] = network
            return 201, {"network": dict(network)}
        network = self.networks.get(parts[0])
        if network is None or not self.sees_network(who, network):
            return 404, {}
        if call.method == "GET":
            return 200, {"network": dict(network)}
        if not who.admin and network["project_id"] != who.project:
            return 403, {}
        if call.method == "DELETE":
            del self.networks[network["id"]]
            self.policies = {key: each for key, each in self.policies.items() if each["object_id"] != network["id"]}
            return 204, None
        network |= {"name": said["network"].get("name", network["name"])} if isinstance(said, dict) and "network" in said else {}
        return 200, {"network": dict(network)}

    def _policy(self, who: Caller, call: Call, parts: list[str], said: Any) -> tuple[int, Any]:
        if not parts and call.method == "GET":
            asked = dict(parse_qsl(call.query))
            found = [each for each in self.policies.values() if all(each.get(name) == value for name, value in asked.items())]
            return 200, {"rbac_policies": [each for each in found if who.admin or each["project_id"] == who.project]}
        if not parts:
            body = said["rbac_policy"]
            network = self.networks.get(body["object_id"])
            if network is None or not (who.admin or network["project_id"] == who.project):
                return 404, {}
            named = [(each["object_id"], each["target_tenant"]) for each in self.policies.values()]
            if (body["object_id"], body["target_tenant"]) in named:
                return 409, {}
            policy = {"id": str(uuid.uuid4()), "project_id": who.project, **body}
            self.policies[policy["id"]] = policy
            return 201, {"rbac_policy": policy}
        policy = self.policies.get(parts[0])
        if policy is None or not (who.admin or policy["project_id"] == who.project):
            return 404, {}
        if call.method == "DELETE":
            del self.policies[parts[0]]
            return 204, None
        return 200, {"rbac_policy": policy}

    def _port(self, who: Caller, call: Call, _parts: list[str], said: Any) -> tuple[int, Any]:
        network = self.networks.get(said["port"]["network_id"]) if call.method == "POST" else None
        if network is None or not self.sees_network(who, network):
            return 404, {}
        return 201, {"port": {"id": str(uuid.uuid4()), "network_id": network["id"], "project_id": who.project}}

    # Nova

    def _server(self, who: Caller, call: Call, parts: list[str], said: Any) -> tuple[int, Any]:
        if parts or call.method != "POST":
            return 404, {}
        image = self.images.get(said["server"]["imageRef"])
        if image is None or not self.sees_image(who, image) or image["status"] != "active":
            return 400, {}
        return 202, {"server": {"id": str(uuid.uuid4())}}


class StreamedReply:
    """An answer that is read in pieces."""

    length = None

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.status, self.headers, self.site = reply.status, reply.headers, reply.site

    async def read(self) -> Reply:
        return self._reply

    async def pieces(self) -> AsyncIterator[bytes]:
        yield self._reply.body

    def close(self) -> None:
        pass


class Request(dict):
    """A double of the requests that the peer port's handlers get."""

    def __init__(self, peer: str, call: Call, names: dict[str, str]) -> None:
        super().__init__({PEER: peer})
        self._body = self._rest = call.body if isinstance(call.body, bytes) else b""
        self.match_info, self.query, self.content = names, dict(parse_qsl(call.query)), self
        self.content_length = len(self._body)

    async def readany(self) -> bytes:
        read, self._rest = self._rest, b""
        return read


class Sites:
    """The cloud as one gateway sees it, also in place of its mesh."""

    groups = Groups("", {})

    def __init__(self, world: World, here: str) -> None:
        self.here = here
        self._world = world

    def others(self, _service: str = "") -> list[str]:
        return [name for name in NAMES if name != self.here]

    def everywhere(self, _service: str = "") -> list[str]:
        return [self.here, *self.others()]

    def reachable(self, _service: str = "") -> list[str]:
        return [] if self.here in self._world.cut else [name for name in self.others() if name not in self._world.cut]

    def holders(self, sites: Iterable[str], _service: str) -> list[str]:
        return list(dict.fromkeys(sites))

    def near_first(self, sites: list[str]) -> list[str]:
        return sorted(sites, key=lambda site: (site != self.here, site))

    def rtt_ms(self, _site: str, _other: str | None = None) -> float:
        return 1.0

    async def own_token(self, service: str) -> str:
        return f"own {service} {self.here}"

    async def send(self, site: str, call: Call, timeout_s: float = 30.0) -> Reply:
        return await (await self.open(site, call)).read()

    @asynccontextmanager
    async def stream(self, site: str, call: Call) -> AsyncIterator[StreamedReply]:
        yield await self.open(site, call)

    async def open(self, site: str, call: Call) -> StreamedReply:
        if site == self.here:
            return StreamedReply(await self._world[site].serve(call))
        if site not in self.reachable():
            raise Unreachable(site, "cut off", sent=False)
        return StreamedReply(await self._world[site].serve_peer(self.here, call))


class Node:
    """A site with a gateway and doubles of its services."""

    def __init__(self, world: World, name: str, data: Path) -> None:
        self.name = name
        self.services = Services(name)
        self.sites = Sites(world, name)
        self.conflicts = Conflicts()
        self.bringer = Bringer(self.sites, data, self.conflicts)
        self.keeper = Keeper(self.sites, world.notes, self.bringer.images)
        self.performer = Performer(self.sites, self.bringer.images)
        self.pending = Pending(data / "pending.db", self.sites, lambda: 0.0, self.performer, self.conflicts)

        def replicas(create_at: CreateAt, _local: object) -> ReplicatedResources:
            return ReplicatedResources(self.sites, world.notes, self.pending, create_at)

        parts = collaborators(bringer=self.bringer, replicas=replicas, on_reply=self.keeper.note)
        self.gateway = Gateway(self.sites, self.sites, parts)
        self.write_listener = self.bringer.loans.on_write

    async def serve(self, call: Call) -> Reply:
        """Answer a request as the site's own services."""
        body = call.body if isinstance(call.body, bytes) else b"".join([piece async for piece in call.body]) if call.body else b""
        if call.service == "identity":
            kind, *rest = call.token.split()
            roles = [{"name": "admin" if rest[0] == "admin" else "member"}]
            said = {"token": {"user": {"id": rest[0]}, "project": {"id": rest[0]}, "roles": roles}}
            return self._reply(200 if kind == "user" else 401, said)
        kind, *rest = call.token.split() or [""]
        if kind == "own":
            if rest != [call.service, self.name]:
                return self._reply(401, {})
            who = Caller("service", admin=True)
        elif kind == "user":
            who = Caller(rest[0], admin=rest[0] == "admin", vouched=GIVEN_ID in call.headers)
        else:
            return self._reply(401, {})
        status, answer = self.services.handle(who, call, body)
        if call.method != "GET" and status < 400:
            self.write_listener(call)
        return self._reply(status, answer)

    def _reply(self, status: int, answer: Any) -> Reply:
        body = answer if isinstance(answer, bytes) else b"" if answer is None else json.dumps(answer).encode()
        return Reply(status, CIMultiDict(), body, self.name)

    async def serve_peer(self, peer: str, call: Call) -> Reply:
        """Answer a request as the gateway's peer port."""
        if call.service != GATEWAY:
            answer = await self.gateway.answer_peer(call)
            return answer if isinstance(answer, Reply) else await answer.read()
        parts = call.path.strip("/").split("/")
        if parts[0] == "images":
            return self._chunk(call, parts[1])
        context = self.bringer._context
        handler, names = {
            "things": (context.holders._answer, dict(zip(("kind", "id"), parts[1:], strict=False))),
            "withdrawals": (context.grants._withdraw, {}),
            "operations": (self.performer._answer, {}),
        }[parts[0]]
        try:
            response = await handler(Request(peer, call, names))
        except web.HTTPException as error:
            return self._reply(error.status, {})
        assert isinstance(response, web.Response)
        return Reply(response.status, CIMultiDict(), response.body, self.name)

    def _chunk(self, call: Call, image: str) -> Reply:
        asked = {name: int(value) for name, value in parse_qsl(call.query)}
        piece = self.services.data.get(image, b"")[asked["offset"] : asked["offset"] + asked["length"]]
        digest = base64.b64encode(hashlib.sha256(piece).digest()).decode()
        return Reply(200, CIMultiDict({"Content-Digest": f"sha-256=:{digest}:"}), piece, self.name)

    async def work(self) -> None:
        """Run each background task of the gateway once."""
        for record in list(self.keeper._document.records(KIND)):
            if wanted(record.fields.get("keep"), self.name):
                with suppress(BringFailed, PullFailed, Unreachable):  # as `Keeper.run`
                    await self.keeper._keep(record.key, record.fields.get("owner"))
        there = {self.name, *self.sites.reachable()}
        for site, resource in self.pending._store.resources():
            if site in there:
                await self.pending._work_off(site, resource)
        loans = self.bringer.loans
        touched, loans._touched = frozenset(loans._touched), set()
        await loans.look(touched)
        await loans.send()


class World:
    """The cloud, with its sites and the links between them."""

    def __init__(self, directory: Path) -> None:
        self.notes = Notes()
        self.cut: set[str] = set()
        self.nodes: dict[str, Node] = {}
        for name in NAMES:
            (directory / name).mkdir()
            self.nodes[name] = Node(self, name, directory / name)

    def __getitem__(self, site: str) -> Node:
        return self.nodes[site]

    async def ask(self, site: str, user: str, call: tuple[str, str, str], body: Any = None, scope: str = "", **headers: str) -> Reply:
        """Send a user's request to a site's public port."""
        method, service, path = call
        said = CIMultiDict({"X-Auth-Token": f"user {user}", **headers})
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = Call(method, service, path, "", said, _pieces(data) if path.endswith("/file") and data else data, "req-1")
        answer = await self.nodes[site].gateway.answer(request, scope or None)
        return answer if isinstance(answer, Reply) else await answer.read()

    async def settle(self, rounds: int = 4) -> None:
        """Let all gateways work until they have nothing left to do."""
        for _ in range(rounds):
            for node in self.nodes.values():
                await node.work()
            await asyncio.sleep(0)

    def close(self) -> None:
        for node in self.nodes.values():
            node.pending._store.close()
            node.bringer.close()
            node.conflicts.close()


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data

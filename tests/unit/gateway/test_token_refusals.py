"""A refusal of another site's token stands only if the site that refuses it can know that the token is not valid."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import web
from gateway_cloud import Cloud, own_token
from token_issuer import Issuer

from atoll.identifiers import gateway_role

ISSUER = "metz"
SERVERS = "/compute/v2.1/servers"
IMAGE_DATA = "/image/v2/images/6f1ea9a8-0d0c-4c0e-9c53-7f3c6f4a6b21/file"
SENTENCE = "site paris lacks identity data of the token, and site metz, which issued it, can't be reached: try again later"


class Keystone:
    """The identity data of a site, which its services and its gateway ask about tokens.

    Attributes:
        known: the tokens that are accepted.
        message: Keystone's message about all others.
        ruled_out: the services refuse all requests by rules of their own.
        judged: the number of questions about a token.
    """

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.message = "Could not find user: ann."
        self.ruled_out = False
        self.judged = 0

    def __call__(self, request: web.Request) -> web.Response | None:
        token = request.headers.get("X-Auth-Token", "")
        if subject := request.headers.get("X-Subject-Token"):
            self.judged += token == own_token(gateway_role("image"))
            if subject in self.known:
                return web.json_response({"token": {}})
            return web.json_response({"error": {"code": 404, "message": self.message, "title": "Not Found"}}, status=404)
        if not token or (token in self.known and not self.ruled_out):
            return None
        return web.json_response({"error": {"code": 401, "message": "no", "title": "Unauthorized"}}, status=401)


class Freshness:
    """The identity data of the issuer.

    Attributes:
        answers: the issuer can be asked.
        held: tokens for which it was asked before.
        deleted: the records that are known to be deleted.
        asked: the tokens for which it was asked after a refusal.
    """

    def __init__(self, keystone: Keystone) -> None:
        self._keystone = keystone
        self.answers = False
        self.held: set[str] = set()
        self.deleted: set[tuple[str, str]] = set()
        self.asked: list[tuple[str, str]] = []

    async def follow(self, _site: str, _digest: str) -> None:
        """Do nothing: the mesh is silent."""

    follow_token = follow

    def holds(self, token: str) -> bool:
        return token in self.held

    async def insist(self, site: str, token: str) -> bool:
        self.asked.append((site, token))
        if self.answers:
            self._keystone.known.add(token)
            self.held.add(token)
        return self.answers

    def is_deleted(self, kind: str, identifier: str) -> bool:
        return (kind, identifier) in self.deleted


class World:
    """The gateways of paris and lyon, and a token that metz has issued."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.at: dict[str, tuple[Keystone, Freshness]] = {}
        for name in ("paris", "lyon"):
            keystone = Keystone()
            freshness = Freshness(keystone)
            cloud[name].services.refuse = keystone
            vars(cloud[name].server._refusals)["_freshness"] = freshness
            self.at[name] = (keystone, freshness)
        self.keystone, self.freshness = self.at["paris"]
        issuer = Issuer(cloud["paris"].options.token_keys, ISSUER)
        (cloud["lyon"].options.token_keys / issuer.path.name).write_bytes(issuer.path.read_bytes())
        self.token = issuer.token("ann", openstack_project_id="p1")

    async def ask(self, method: str = "GET", path: str = SERVERS, site: str = "paris", **more) -> tuple[int, dict, dict[str, str]]:
        headers = {"X-Auth-Token": self.token} | more.pop("headers", {})
        return await self.cloud.ask(site, method, path, headers=headers, **more)


def run(directory: Path, test) -> None:
    async def main() -> None:
        async with Cloud(directory, "paris", "lyon") as cloud:
            await test(World(cloud))

    asyncio.run(main())


def refused_with_503(answer: tuple[int, dict, dict[str, str]]) -> bool:
    status, body, headers = answer
    return status == 503 and SENTENCE in json.dumps(body) and headers["X-Atoll-Missing"] == ISSUER and "Retry-After" in headers


def test_a_token_that_can_not_be_checked_is_not_called_invalid(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        assert refused_with_503(await world.ask())
        assert world.freshness.asked == [(ISSUER, world.token)], "the issuer must be asked although the mesh can't reach it"

    run(tmp_path, test)


def test_a_request_is_repeated_once_the_issuer_has_told_what_it_has(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.freshness.answers = True
        status, _body, _headers = await world.ask("POST", json={"server": {"name": "s", "availability_zone": "paris"}})
        assert status == 202
        assert len(world.cloud["paris"].services.servers) == 1
        assert world.keystone.judged == 0

    run(tmp_path, test)


@pytest.mark.parametrize("reason", ["revoked", "rules", "deleted user", "deleted project", "known before"])
def test_a_refusal_stands_if_its_reason_is_known(tmp_path: Path, reason: str) -> None:
    async def test(world: World) -> None:
        match reason:
            case "revoked":
                world.keystone.message = "Failed to validate token"
            case "rules":
                world.keystone.known.add(world.token)
                world.keystone.ruled_out = True
            case "deleted user":
                world.freshness.deleted.add(("user", "ann"))
            case "deleted project":
                world.freshness.deleted.add(("project", "p1"))
            case _:
                world.freshness.held.add(world.token)
        assert (await world.ask())[0] == 401

    run(tmp_path, test)


def test_other_tokens_are_refused_as_before(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        own = Issuer(world.cloud["paris"].options.token_keys, "public").token("ann")
        for token in (own, "gAAAAABnothing", world.token[:-8] + "AAAAAAAA"):
            assert (await world.ask(headers={"X-Auth-Token": token}))[0] == 401
        assert world.freshness.asked == []
        assert world.keystone.judged == 0

    run(tmp_path, test)


def test_keystone_calls_a_project_of_a_token_missing(tmp_path: Path) -> None:
    """Keystone answers 404 to a client whose token names a project that it does not have."""

    def refuse(request: web.Request) -> web.Response | None:
        if request.method == "POST":  # the gateway signs in
            return None
        return web.json_response({"error": {"code": 404, "message": "Could not find project: p1.", "title": "Not Found"}}, status=404)

    async def test(world: World) -> None:
        world.cloud["paris"].services.refuse = refuse
        assert refused_with_503(await world.ask(path="/identity/v3/auth/projects"))
        world.freshness.held.add(world.token)
        assert (await world.ask(path="/identity/v3/auth/projects"))[0] == 404

    run(tmp_path, test)


def test_image_data_wait_for_a_token_that_can_be_checked(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        assert refused_with_503(await world.ask("PUT", IMAGE_DATA, data=b"x" * 4096))
        assert world.cloud["paris"].services.data == {}
        world.keystone.message = "Failed to validate token"
        assert (await world.ask("PUT", IMAGE_DATA, data=b"x" * 4096))[0] == 401
        world.keystone.message = "Could not find user: ann."
        world.freshness.answers = True
        assert (await world.ask("PUT", IMAGE_DATA, data=b"x" * 4096))[0] == 204
        assert len(world.cloud["paris"].services.data) == 1

    run(tmp_path, test)


def test_a_site_that_lacks_the_data_says_so_to_the_gateway_of_the_client(tmp_path: Path) -> None:
    """Paris has the data of the token, and lyon, which has the server, does not."""

    async def test(world: World) -> None:
        world.keystone.known.add(world.token)
        server = world.cloud["lyon"].services.add_server("a", "2026-01-01T00:00:00Z")
        assert (await world.ask(path=f"{SERVERS}/{server}"))[0] == 503
        keystone, freshness = world.at["lyon"]
        freshness.answers = True
        assert (await world.ask(path=f"{SERVERS}/{server}"))[0] == 200
        freshness.answers = False
        freshness.held.clear()
        keystone.known.clear()
        status, body, headers = await world.ask(path=f"{SERVERS}/{server}")  # paris knows now where the server is
        assert (status, headers["X-Atoll-Missing"]) == (503, ISSUER)
        assert "site lyon lacks identity data of the token" in json.dumps(body)

    run(tmp_path, test)


@pytest.mark.parametrize("refusal", [401, 404])  # Keystone answers 404 if it lacks the project that the token names
def test_sign_in_with_a_token_and_questions_about_one(tmp_path: Path, refusal: int) -> None:
    async def test(world: World) -> None:
        body = {"auth": {"identity": {"methods": ["token"], "token": {"id": world.token}}}}

        def sign_in_refused(request: web.Request) -> web.Response | None:
            if request.method == "POST" and request.path == "/identity/v3/auth/tokens" and world.token not in world.keystone.known:
                return web.json_response({"error": {"code": refusal, "message": "no", "title": "no"}}, status=refusal)
            return world.keystone(request)

        world.keystone.known.add("an administrator's")
        asked = {"headers": {"X-Auth-Token": "an administrator's", "X-Subject-Token": world.token}}
        assert refused_with_503(await world.ask(path="/identity/v3/auth/tokens", **asked))
        world.freshness.answers = True
        assert (await world.ask(path="/identity/v3/auth/tokens", **asked))[0] == 200
        world.keystone.known.discard(world.token)
        world.freshness.held.clear()
        world.cloud["paris"].services.refuse = sign_in_refused
        assert (await world.cloud.ask("paris", "POST", "/identity/v3/auth/tokens", json=body))[0] == 200
        malformed = {"auth": {"identity": {"methods": ["token"], "token": {"id": [1]}}}}
        world.keystone.known.discard(world.token)
        assert (await world.cloud.ask("paris", "POST", "/identity/v3/auth/tokens", json=malformed))[0] == refusal

    run(tmp_path, test)

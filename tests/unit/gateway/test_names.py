"""Names that are unique in the cloud: claimed before use, and reported if sites that were apart used them twice."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from bring_sites import Sites
from multidict import CIMultiDict

from atoll.gateway.copies.clashes import DIFFERS, NameClashes
from atoll.gateway.copies.conflicts import Conflicts
from atoll.gateway.peer import PEER
from atoll.gateway.request.call import Call, Reply, Unreachable, json_reply
from atoll.gateway.resolve.routes import COMPUTE, match
from atoll.gateway.resolve.unique import Name, wanted

LAPTOP = Name("key pair", "laptop", "u")


class View(Sites):
    """A double of `Sites`, in which a site may be cut off."""

    cut: set[str]
    unanswered = 0
    """The number of requests to other sites that get no answer, although the sites count as reachable."""

    def others(self, _service: str = "") -> list[str]:
        return sorted(site for site in self.urls if site != self.here)

    def reachable(self, _service: str = "") -> list[str]:
        return [] if self.here in self.cut else [site for site in self.others() if site not in self.cut]

    async def send(self, site: str, call: Call, timeout_s: float = 30.0) -> Reply:
        if site != self.here and site not in self.reachable():
            raise Unreachable(site, "cut off")
        if site != self.here and self.unanswered:
            self.unanswered -= 1
            raise Unreachable(site, "no answer")
        return await super().send(site, call, timeout_s)


class Nova:
    """The key pairs and flavors of a site, with its part of the mechanism."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.things: dict[str, dict[str, Any]] = {}
        self.asked = 0
        self.slow: asyncio.Event | None = None
        self.conflicts = Conflicts()
        self.application = web.Application(middlewares=[self._named])
        self.application.router.add_get("/compute/{path:.*}", self._get)

    def build(self, view: View) -> None:
        self.view = view
        self.clashes = NameClashes(view, self.conflicts)
        self.clashes.attach(self.application)

    @web.middleware
    async def _named(self, request: web.Request, handler: Any) -> web.StreamResponse:
        request[PEER] = request.headers.get("X-Test-From", "")
        self.asked += request.path.startswith("/atoll")
        return await handler(request)

    async def _get(self, request: web.Request) -> web.Response:
        path = request.path.removeprefix("/compute/v2.1/")
        if path == "flavors/detail":
            flavors = sorted((each for key, each in self.things.items() if key.startswith("flavors/")), key=lambda each: each["id"])
            flavors = [each for each in flavors if each["id"] > request.query.get("marker", "")]
            return web.json_response({"flavors": flavors[: int(request.query["limit"])]})
        key = path + (f"?{request.query['user_id']}" if "user_id" in request.query else "")
        if key not in self.things:
            raise web.HTTPNotFound
        return web.json_response({"flavor" if path.startswith("flavors") else "keypair": self.things[key]})

    async def create(self, kind: str, body: dict[str, Any], key: str) -> Reply:
        """Handle a POST as the site's gateway does."""
        call = Call("POST", "compute", f"/v2.1/{kind}", "", CIMultiDict(), b"", "r", "u").with_(json=body)

        async def make() -> Reply:
            if self.slow is not None:
                await self.slow.wait()
            thing = next(iter(body.values()))
            self.things[key] = {"id": str(uuid.uuid4()), **thing}
            return json_reply(201, {}, self.name)

        return await self.clashes.names.create(call, wanted(call, COMPUTE[kind]), make)

    async def key_pair(self, public_key: str = "one", user: str = "u") -> Reply:
        return await self.create(
            "os-keypairs", {"keypair": {"name": "laptop", "public_key": public_key, "type": "ssh"}}, f"os-keypairs/laptop?{user}"
        )

    async def flavor(self, name: str, identifier: str) -> Reply:
        return await self.create("flavors", {"flavor": {"name": name, "id": identifier, "ram": 1}}, f"flavors/{identifier}")


Act = Callable[[Nova, Nova, Nova, set[str]], Awaitable[None]]


def trial(act: Act) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(aiohttp.ClientSession())
            urls: dict[str, str] = {}
            cut: set[str] = set()
            sites = [Nova(name) for name in ("brest", "metz", "pau")]
            for site in sites:
                view = View(site.name, urls, session)
                view.cut = cut
                site.build(view)
                runner = web.AppRunner(site.application, access_log=None, shutdown_timeout=0.1)
                await runner.setup()
                stack.push_async_callback(runner.cleanup)
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                urls[site.name] = f"http://127.0.0.1:{runner.addresses[0][1]}"
            brest, metz, pau = sites
            await act(brest, metz, pau, cut)

    asyncio.run(main())


def message(reply: Reply) -> str:
    return str(next(iter(reply.json().values()))["message"])


def test_name_that_another_site_has_is_refused_in_upstreams_words():
    async def act(brest: Nova, metz: Nova, pau: Nova, _cut: set[str]) -> None:
        assert (await brest.key_pair("one")).status == 201
        for site, key in ((metz, "two"), (pau, "one")):
            refused = await site.key_pair(key)
            assert (refused.status, message(refused)) == (409, "Key pair 'laptop' already exists.")
        assert (await brest.flavor("small", "7")).status == 201
        assert message(await metz.flavor("small", "8")) == "Flavor with name small already exists."
        assert message(await metz.flavor("big", "7")) == "Flavor with ID 7 already exists."
        assert (await metz.flavor("big", "8")).status == 201
        assert metz.things.keys() == {"flavors/8"}

    trial(act)


def test_flavors_are_found_behind_the_first_page(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("atoll.gateway.copies.names.PAGE", 2)

    async def act(brest: Nova, metz: Nova, _pau: Nova, _cut: set[str]) -> None:
        for number in "12345":
            brest.things[f"flavors/{number}"] = {"id": number, "name": f"f{number}"}
        assert (await metz.flavor("f5", "9")).status == 409
        assert (await metz.flavor("f6", "9")).status == 201

    trial(act)


def test_of_simultaneous_creations_exactly_one_succeeds():
    async def act(brest: Nova, metz: Nova, pau: Nova, _cut: set[str]) -> None:
        for _ in range(30):
            replies = await asyncio.gather(pau.key_pair("a"), metz.key_pair("b"), brest.key_pair("c"))
            assert sorted(reply.status for reply in replies) == [201, 409, 409]
            for site in (brest, metz, pau):
                site.things.clear()

    trial(act)


def test_a_name_that_is_being_created_is_taken():
    async def act(brest: Nova, metz: Nova, _pau: Nova, _cut: set[str]) -> None:
        metz.slow = asyncio.Event()
        making = asyncio.create_task(metz.key_pair())
        await asyncio.sleep(0.1)
        assert (await brest.key_pair()).status == 409, "a creation under way must win, although brest's name sorts first"
        metz.slow.set()
        assert (await making).status == 201

    trial(act)


def test_name_is_free_again_when_the_creation_fails():
    async def act(brest: Nova, metz: Nova, _pau: Nova, _cut: set[str]) -> None:
        call = Call("POST", "compute", "/v2.1/os-keypairs", "", CIMultiDict(), b"", "r", "u")

        async def fail() -> Reply:
            raise Unreachable("brest", "gone")

        with pytest.raises(Unreachable):
            await brest.clashes.names.create(call, [LAPTOP], fail)
        assert (await metz.key_pair()).status == 201

    trial(act)


def test_names_of_different_users_are_different():
    async def act(brest: Nova, metz: Nova, _pau: Nova, _cut: set[str]) -> None:
        brest.things["os-keypairs/laptop?v"] = {"name": "laptop", "public_key": "x", "type": "ssh"}
        assert (await metz.key_pair()).status == 201

    trial(act)


async def apart(brest: Nova, metz: Nova, cut: set[str], one: str = "one", two: str = "two") -> None:
    """Have two sites create the key pair while they are apart, and meet again."""
    cut.add("metz")
    assert (await brest.key_pair(one)).status == (await metz.key_pair(two)).status == 201
    await brest.clashes.compare()
    assert brest.conflicts.list() == []
    cut.clear()


def test_names_given_while_apart_are_kept_and_told_at_all_sites_until_one_goes():
    async def act(brest: Nova, metz: Nova, pau: Nova, cut: set[str]) -> None:
        await apart(brest, metz, cut)
        await metz.clashes.compare()
        for site in (brest, pau):
            await site.clashes.compare()
        for site in (brest, metz, pau):
            (told,) = site.conflicts.list()
            assert (told["kind"], told["id"], told["sites"]) == ("key pair", "laptop of user u", ["brest", "metz"])
        assert brest.things
        assert metz.things
        metz.things.clear()
        for site in (brest, metz, pau):
            await site.clashes.compare()
            assert site.conflicts.list() == []

    trial(act)


@pytest.mark.parametrize("unanswered", range(1, 5))
def test_requests_without_an_answer_after_a_cut_are_repeated_at_once(unanswered: int, monkeypatch: pytest.MonkeyPatch):
    """A connection from before the cut may be dead, and the next regular comparison is a minute away."""
    monkeypatch.setattr("atoll.gateway.copies.clashes.AGAIN_S", 0.01)

    async def act(brest: Nova, metz: Nova, pau: Nova, cut: set[str]) -> None:
        await apart(brest, metz, cut)
        brest.view.unanswered = unanswered
        runs = [asyncio.create_task(site.clashes.run()) for site in (brest, pau)]
        async with asyncio.timeout(20):
            while not (brest.conflicts.list() and pau.conflicts.list()) or brest.view.unanswered:
                await asyncio.sleep(0.01)
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)

    trial(act)


def test_the_same_resource_created_while_separated_is_not_a_clash():
    async def act(brest: Nova, metz: Nova, _pau: Nova, cut: set[str]) -> None:
        await apart(brest, metz, cut, "same", "same")
        await brest.clashes.compare()
        assert brest.conflicts.list() == []
        asked = metz.asked
        await brest.clashes.compare()
        assert metz.asked == asked, "equal resources must not be compared again"

    trial(act)


def test_watched_names_survive_a_restart(tmp_path):
    async def act(brest: Nova, metz: Nova, _pau: Nova, cut: set[str]) -> None:
        brest.clashes = NameClashes(brest.view, brest.conflicts, tmp_path / "names.db")
        await apart(brest, metz, cut)
        brest.clashes.close()
        again = NameClashes(brest.view, brest.conflicts, tmp_path / "names.db")
        await again.compare()
        assert again.between(LAPTOP) == ("brest", "metz")
        again.forget("metz")
        assert (again.between(LAPTOP), brest.conflicts.list()) == ((), [])
        again.close()

    trial(act)


def test_requests_about_a_name_that_clashes_mean_what_their_gateway_shows():
    async def act(brest: Nova, metz: Nova, pau: Nova, cut: set[str]) -> None:
        await apart(brest, metz, cut)
        await brest.clashes.compare()
        await pau.clashes.compare()
        everywhere = ["brest", "metz", "pau"]
        delete = Call("DELETE", "compute", "/v2.1/os-keypairs/laptop", "", CIMultiDict(), None, "r", "u")
        route = match("DELETE", "compute", delete.path)
        assert brest.clashes.sites_for(delete, route, everywhere, None) == ["brest", "pau"]
        assert pau.clashes.sites_for(delete, route, everywhere, ["metz"]) == ["metz"]
        refused = pau.clashes.sites_for(delete, route, everywhere, None)
        assert isinstance(refused, Reply)
        assert message(refused) == (
            "Key pair laptop is not the same at brest and metz: delete it at one of them, with a scope that names the site"
        )
        other = Call("DELETE", "compute", delete.path, "", CIMultiDict(), None, "r", "v")
        assert pau.clashes.sites_for(other, route, everywhere, None) == everywhere

        boot = Call("POST", "compute", "/v2.1/servers", "", CIMultiDict(), b"", "r", "u").with_(json={"server": {"key_name": "laptop"}})
        assert brest.clashes.refusal(boot, "brest") is None
        assert [site.clashes.refusal(boot, at).status for site, at in ((brest, "metz"), (pau, "pau"), (pau, "metz"))] == [409] * 3
        assert brest.clashes.refusal(boot.with_(json={"server": {"key_name": "desk"}}), "metz") is None

        shown = json_reply(200, {}, "brest")
        brest.clashes.mark(delete.with_(method="GET"), route, shown)
        assert shown.headers[DIFFERS] == "brest,metz"
        listed = json_reply(200, {}, "brest")
        brest.clashes.mark(delete.with_(method="GET", path="/v2.1/os-keypairs"), match("GET", "compute", "/v2.1/os-keypairs"), listed)
        assert listed.headers[DIFFERS] == "brest,metz"
        plain = json_reply(200, {}, "brest")
        brest.clashes.mark(delete, match("GET", "compute", "/v2.1/servers"), plain)
        assert DIFFERS not in plain.headers

    trial(act)


def test_other_gateways_say_nonsense():
    async def act(brest: Nova, metz: Nova, _pau: Nova, _cut: set[str]) -> None:
        for path in ("/atoll/names", "/atoll/names/describe", "/atoll/names/clash"):
            for body in (b"{", b"[]", b'{"names": [["x"]]}', b'{"names": [["other", "x", "y"]]}', b'{"names": 1}'):
                async with metz.view.session.post(metz.view.urls["brest"] + path, data=body) as answer:
                    assert answer.status == 400, (path, body)
        said = {"names": [["key pair", "laptop", "u"]], "sites": ["brest", "nowhere"]}
        async with metz.view.session.post(metz.view.urls["brest"] + "/atoll/names/clash", json=said) as answer:
            assert answer.status == 200
        assert brest.clashes._suspects == {}

    trial(act)


def test_a_name_is_watched_no_longer_than_its_resource_exists():
    """A user who creates and deletes key pairs while a site is away must not fill the disk."""

    async def act(brest: Nova, _metz: Nova, _pau: Nova, cut: set[str]) -> None:
        cut.add("metz")
        for _ in range(3):
            assert (await brest.key_pair()).status == 201
            assert {each.name for each in brest.clashes._suspects} == {LAPTOP}
            brest.clashes.on_write(Call("DELETE", "compute", "/v2.1/os-keypairs/desk", "", CIMultiDict(), None, "r", "u"))
            assert brest.clashes._suspects
            brest.clashes.on_write(Call("DELETE", "compute", "/v2.1/os-keypairs/laptop", "", CIMultiDict(), None, "r", "u"))
            assert brest.clashes._suspects == {}
            brest.things.clear()

    trial(act)


def test_other_gateways_can_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("atoll.gateway.copies.clashes.MAX_REPORTED_NAMES", 3)

    async def act(brest: Nova, metz: Nova, _pau: Nova, cut: set[str]) -> None:
        cut.add("pau")
        statuses = []
        for name in ("a", "b", "x" * 256, "c", "c", "d", "e"):
            said = {"names": [["key pair", name, "u"]], "sites": ["brest", "pau"]}
            async with metz.view.session.post(metz.view.urls["brest"] + "/atoll/names/clash", json=said) as answer:
                statuses.append(answer.status)
        assert statuses == [200, 200, 400, 200, 200, 503, 503]
        assert len(brest.clashes._suspects) == 3

    trial(act)


def test_a_user_who_may_not_see_a_resource_does_not_learn_of_its_name_clash():
    async def act(brest: Nova, metz: Nova, _pau: Nova, cut: set[str]) -> None:
        await apart(brest, metz, cut)
        await brest.clashes.compare()
        headers = CIMultiDict({"OpenStack-API-Version": "compute 2.10"})
        path = "/v2.1/os-keypairs/laptop"
        look = Call("GET", "compute", path, "user_id=u", headers, None, "r", "mallory")
        for status in (401, 403, 404):
            refused = json_reply(status, {}, "brest")
            brest.clashes.mark(look, match("GET", "compute", path), refused)
            assert DIFFERS not in refused.headers

    trial(act)

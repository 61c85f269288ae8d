"""The broker of regions, against two regions that answer from memory over real connections."""

import asyncio
import json
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from atoll.bench.regions.broker import BrokerTask, RegionBroker, serve

SECRET = "secret"


class MemoryRegion:
    """The identity and compute APIs of one region."""

    def __init__(self, name, token="first"):
        self.name, self.token, self.servers, self.asked, self.slow = name, token, {}, [], asyncio.Event()
        self.slow.set()
        self.signed_in = 0

    def application(self):
        made = web.Application()
        made.router.add_post("/identity/v3/auth/tokens", self.sign_in)
        made.router.add_route("*", "/compute/servers{rest:.*}", self.compute)
        return made

    async def sign_in(self, request):
        self.signed_in += 1
        url = f"http://{request.host}/compute"
        token = {"catalog": [{"type": "compute", "endpoints": [{"interface": "public", "url": url}]}]}
        return web.json_response({"token": token}, status=201, headers={"X-Subject-Token": self.token})

    async def compute(self, request):
        self.asked.append((request.method, request.match_info["rest"], request.headers.get("OpenStack-API-Version")))
        await self.slow.wait()
        if request.headers["X-Auth-Token"] != self.token:
            return web.json_response({}, status=401)
        rest = request.match_info["rest"].strip("/")
        server, _, part = rest.partition("/")
        if part and server in self.servers:
            self.servers[server] |= {part: await request.json()}
            return web.Response(status=202)
        if request.method == "POST" and not part:
            name = (await request.json())["server"]["name"]
            self.servers[name] = {"id": name}
            return web.json_response({"server": {"id": name}}, status=202)
        if rest in ("", "detail"):
            return web.json_response({"servers": list(self.servers.values())})
        if rest not in self.servers:
            return web.json_response({"itemNotFound": {}}, status=404)
        if request.method == "DELETE":
            del self.servers[rest]
            return web.Response(status=204)
        return web.json_response({"server": self.servers[rest]})


@asynccontextmanager
async def serving(application):
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def brokered(*regions, ask="parallel", timeout_s=5.0):
    """Serve regions and their broker; yield a function that sends it a request."""
    async with aiohttp.ClientSession() as session:
        urls, stacks = {}, []
        for region in regions:
            stacks.append(serving(region.application()))
            urls[region.name] = (f"{await stacks[-1].__aenter__()}/identity/v3", {"auth": {}})
        task = BrokerTask("127.0.0.1", SECRET, ask, urls)
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout_s)) as own,
                serving(RegionBroker(task, own).application(SECRET)) as url,
            ):

                async def send(method, path, body=None, secret=SECRET):
                    headers = {"OpenStack-API-Version": "compute 2.90"}
                    async with session.request(method, f"{url}/{secret}/{path}", json=body, headers=headers) as answer:
                        text = await answer.read()
                        return answer.status, json.loads(text) if text and answer.content_type == "application/json" else None

                yield send
        finally:
            for stack in stacks:
                await stack.__aexit__(None, None, None)


@pytest.mark.parametrize("ask", ["parallel", "serial"])
def test_servers_are_created_at_one_region_and_listed_from_all(ask):
    async def run():
        north, south = MemoryRegion("north"), MemoryRegion("south")
        async with brokered(north, south, ask=ask) as send:
            for region in ("north", "south"):
                assert await send("POST", f"{region}/servers", {"server": {"name": f"in-{region}"}}) == (
                    202,
                    {"server": {"id": f"in-{region}"}},
                )
            listed = await send("GET", "north/servers/detail?all_tenants=1")
            assert listed == (200, {"servers": [{"id": "in-north", "region": "north"}, {"id": "in-south", "region": "south"}]})
            assert await send("GET", "north/servers/in-south") == (200, {"server": {"id": "in-south"}})
            assert await send("DELETE", "north/servers/in-south") == (204, None)
            assert (await send("GET", "north/servers/in-south"))[0] == 404
        assert list(north.servers) == ["in-north"]
        assert south.servers == {}
        assert ("GET", "/detail?all_tenants=1", "compute 2.90") in [(*each[:1], *each[1:]) for each in _with_query(south)]
        assert (north.signed_in, south.signed_in) == (1, 1)

    def _with_query(region):
        return [(method, rest + ("?all_tenants=1" if rest == "/detail" else ""), version) for method, rest, version in region.asked]

    asyncio.run(run())


def test_an_action_reaches_the_region_that_has_the_server():
    async def run():
        north, south = MemoryRegion("north"), MemoryRegion("south")
        async with brokered(north, south) as send:
            await send("POST", "south/servers", {"server": {"name": "one"}})
            assert await send("POST", "north/servers/one/action", {"pause": None}) == (202, None)
            assert (await send("POST", "north/servers/two/action", {"pause": None}))[0] == 404
        assert south.servers == {"one": {"id": "one", "action": {"pause": None}}}
        assert north.servers == {}

    asyncio.run(run())


def test_regions_are_asked_in_parallel_or_serially():
    async def run(ask):
        north, south = MemoryRegion("north"), MemoryRegion("south")
        north.slow.clear()
        async with brokered(north, south, ask=ask) as send:
            listing = asyncio.ensure_future(send("GET", "north/servers"))
            while not north.asked:
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.1)
            asked = len(south.asked)
            north.slow.set()
            assert (await listing)[0] == 200
            return asked

    assert asyncio.run(run("parallel")) == 1
    assert asyncio.run(run("serial")) == 0


def test_a_list_is_whole_or_an_error_that_names_the_region():
    async def run():
        north, south = MemoryRegion("north"), MemoryRegion("south")
        async with brokered(north, south, timeout_s=0.3) as send:
            assert (await send("GET", "north/servers"))[0] == 200
            south.slow.clear()
            status, body = await send("GET", "north/servers")
            assert status == 504
            assert body["error"]["message"].startswith("region south does not answer: TimeoutError")
            assert (await send("GET", "north/servers/unknown"))[0] == 504, "the region that is away may have it"
            south.slow.set()

    asyncio.run(run())


def test_an_expired_token_is_replaced():
    async def run():
        north = MemoryRegion("north")
        async with brokered(north) as send:
            assert (await send("GET", "north/servers"))[0] == 200
            north.token = "second"
            assert (await send("GET", "north/servers"))[0] == 200
        assert north.signed_in == 2

    asyncio.run(run())


def test_strangers_and_unknown_regions_are_refused():
    async def run():
        north = MemoryRegion("north")
        async with brokered(north) as send:
            assert (await send("GET", "north/servers", secret="guess"))[0] == 404
            status, body = await send("POST", "east/servers", {"server": {"name": "x"}})
            assert (status, body["error"]["message"]) == (404, "no region is called east: expected one of north")
        assert north.asked == []

    asyncio.run(run())


def test_it_serves_until_it_is_ended():
    async def run():
        ready = asyncio.Future()
        task = asyncio.ensure_future(serve(BrokerTask("127.0.0.1", SECRET, "parallel", {}), ready.set_result))
        port = await asyncio.wait_for(ready, 5)
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/{SECRET}/x/servers") as answer:
            assert await answer.json() == {"servers": []}
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())

"""The broker of separate regions: lists the servers of all regions, and creates servers at a named region.

The broker keeps no record of the regions' servers, so it asks all regions for a list, and for a single server. It has an account at each
region. If a region does not answer, the broker answers with an error that names the region, because a list without that region's servers
would look complete.

`python -m atoll.bench.regions.broker` reads its task (`BrokerTask`) as one JSON object from the standard input, prints its port, and serves
until it is ended. It answers only requests whose path begins with the task's secret.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web

TIMEOUT_S = 120.0
"""Seconds to wait for the answer of a region."""

_FORWARDED = ("OpenStack-API-Version", "X-OpenStack-Nova-API-Version")


@dataclass(frozen=True)
class BrokerTask:
    """The task of a broker.

    Attributes:
        host: the address to listen on.
        secret: the first part of the path of each request.
        ask: the order in which regions are asked, "parallel" or "serial".
        regions: for each region, the URL of its identity API and the body of a request for a token.
        timeout_s: seconds to wait for the answer of a region.
    """

    host: str
    secret: str
    ask: str
    regions: Mapping[str, tuple[str, Any]]
    timeout_s: float = TIMEOUT_S


@dataclass(frozen=True)
class RegionAnswer:
    """The answer of a region.

    Attributes:
        region: the name of the region.
        status: the HTTP status; 504 if the region did not answer.
        body: the decoded JSON; `None` without a body.
    """

    region: str
    status: int
    body: Any


class Region:
    """The broker's client of one region.

    Args:
        name: the name of the region.
        identity: the URL of the region's identity API, with `/v3`.
        credentials: the body of a request for a token.
        session: the HTTP session.
    """

    def __init__(self, name: str, identity: str, credentials: Any, session: aiohttp.ClientSession) -> None:
        self.name = name
        self._identity, self._credentials, self._session = identity, credentials, session
        self._token = self._compute = ""

    async def ask(self, method: str, path: str, headers: Mapping[str, str], body: Any = None) -> RegionAnswer:
        """Send a request to the compute API of the region, and return its answer."""
        try:
            if not self._token:
                await self._sign_in()
            answer = await self._send(method, path, headers, body)
            if answer.status == 401:  # the token has expired
                await self._sign_in()
                answer = await self._send(method, path, headers, body)
        except (aiohttp.ClientError, TimeoutError, OSError, LookupError, ValueError) as error:
            reason = f"region {self.name} does not answer: {type(error).__name__}: {error}".rstrip(": ")
            return RegionAnswer(self.name, 504, {"error": {"code": 504, "message": reason}})
        return answer

    async def _sign_in(self) -> None:
        async with self._session.post(f"{self._identity}/auth/tokens", json=self._credentials) as answer:
            token = (await answer.json())["token"]
            catalogue = {service["type"]: service["endpoints"] for service in token["catalog"]}
            self._compute = next(each["url"] for each in catalogue["compute"] if each["interface"] == "public")
            self._token = answer.headers["X-Subject-Token"]

    async def _send(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> RegionAnswer:
        sent = {**headers, "X-Auth-Token": self._token, "Accept": "application/json"}
        async with self._session.request(method, self._compute + path, headers=sent, json=body) as answer:
            text = await answer.read()
            return RegionAnswer(self.name, answer.status, json.loads(text) if text else None)


class RegionBroker:
    """Answers requests of users with the answers of the regions.

    Args:
        task: the task of the broker.
        session: the HTTP session.
    """

    def __init__(self, task: BrokerTask, session: aiohttp.ClientSession) -> None:
        self._serial = task.ask == "serial"
        self._regions = {name: Region(name, *each, session) for name, each in task.regions.items()}

    def application(self, secret: str) -> web.Application:
        """Return the web application, with paths such as `/SECRET/REGION/servers`. Servers are created at the region in the path."""
        made = web.Application()
        base = f"/{secret}/{{region}}"
        made.router.add_get(f"{base}/servers", self.list)
        made.router.add_get(f"{base}/servers/detail", self.list)
        made.router.add_post(f"{base}/servers", self.create)
        made.router.add_get(f"{base}/servers/{{server}}", self.one)
        made.router.add_delete(f"{base}/servers/{{server}}", self.one)
        made.router.add_route("*", f"{base}/servers/{{server}}/{{part:.+}}", self.one)
        return made

    async def list(self, request: web.Request) -> web.Response:
        """List the servers of all regions, or answer 504 with the name of a region that does not answer."""
        path = f"/servers{'/detail' if request.path.endswith('/detail') else ''}{_query(request)}"
        answers = await self._ask_all(lambda region: region.ask("GET", path, _headers(request)))
        for answer in answers:
            if answer.status != 200:
                return _response(answer)
        return web.json_response({"servers": [{**server, "region": each.region} for each in answers for server in each.body["servers"]]})

    async def create(self, request: web.Request) -> web.Response:
        """Create a server at the region that the path names."""
        region = self._regions.get(request.match_info["region"])
        if region is None:
            known = ", ".join(self._regions)
            message = f"no region is called {request.match_info['region']}: expected one of {known}"
            return web.json_response({"error": {"code": 404, "message": message}}, status=404)
        return _response(await region.ask("POST", "/servers", _headers(request), await request.json()))

    async def one(self, request: web.Request) -> web.Response:
        """Do a request for one server, or a part of it, at the region that has it; answer 504 if none has it and one does not answer."""
        part, body = request.match_info.get("part"), await request.json() if request.can_read_body else None
        path = f"/servers/{request.match_info['server']}{f'/{part}' if part else ''}{_query(request)}"
        answers = await self._ask_all(lambda region: region.ask(request.method, path, _headers(request), body), until_found=True)
        found = [answer for answer in answers if answer.status != 404]
        return _response(min(found or answers, key=lambda answer: answer.status))

    async def _ask_all(self, ask: Callable[[Region], Awaitable[RegionAnswer]], *, until_found: bool = False) -> Sequence[RegionAnswer]:
        if not self._serial:
            return await asyncio.gather(*map(ask, self._regions.values()))
        answers = []
        for region in self._regions.values():
            answers.append(await ask(region))
            if until_found and answers[-1].status < 300:
                break
        return answers


def _headers(request: web.Request) -> dict[str, str]:
    return {name: request.headers[name] for name in _FORWARDED if name in request.headers}


def _query(request: web.Request) -> str:
    return f"?{request.query_string}" if request.query_string else ""


def _response(answer: RegionAnswer) -> web.Response:
    if answer.body is None:
        return web.Response(status=answer.status)
    return web.json_response(answer.body, status=answer.status)


async def serve(task: BrokerTask, ready: Callable[[int], None]) -> None:
    """Serve until the task is cancelled.

    Args:
        task: the task.
        ready: called with the port on which the broker listens.
    """
    timeout = aiohttp.ClientTimeout(total=task.timeout_s)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0), trust_env=False) as session:
        runner = web.AppRunner(RegionBroker(task, session).application(task.secret), access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, task.host, 0)
            await site.start()
            ready(runner.addresses[0][1])
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()


def main() -> None:
    """Read a task from standard input, print the port, and serve."""
    data = json.load(sys.stdin)

    def ready(port: int) -> None:
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()

    asyncio.run(serve(BrokerTask(**data), ready))


if __name__ == "__main__":
    main()

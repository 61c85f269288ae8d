"""Clients that close the connection before their answer arrives."""

import asyncio

from aiohttp import ClientConnectionResetError, web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from atoll.gateway.door.respond import respond
from atoll.gateway.request.call import Reply


def test_a_client_that_hangs_up_before_the_answer_is_not_an_error(monkeypatch):
    tried = []

    async def closed(response: web.Response, _data: bytes = b"") -> None:
        tried.append(response.status)
        raise ClientConnectionResetError("Cannot write to closing transport")

    monkeypatch.setattr(web.Response, "write_eof", closed)

    async def main() -> None:
        response = await respond(make_mocked_request("GET", "/"), Reply(200, CIMultiDict(), b"{}", "paris"))
        assert response.status == 200

    asyncio.run(main())
    assert tried == [200]

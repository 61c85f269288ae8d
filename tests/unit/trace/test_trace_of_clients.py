"""Requests of clients at a gateway's public port, whose headers anybody may have written."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from atoll.gateway import tracing
from atoll.trace import propagation, store
from atoll.trace.attributes import FROM_OUTSIDE, PEER_SERVICE

PARENT = f"00-{'1' * 32}-{'2' * 16}-01"


async def reply() -> web.StreamResponse:
    return web.Response()


@pytest.mark.parametrize(
    ("sender", "of_client", "shown"),
    [
        ("nova@paris", False, "nova"),
        ("nova@paris", True, None),
        ("gateway@lyon", True, None),
        ("client@", True, "client"),
    ],
)
def test_a_client_is_not_a_service_of_the_cloud(record, sender, of_client, shown):
    recording = record(service="gateway")
    request = make_mocked_request("GET", "/compute/v2.1/servers", {"traceparent": PARENT, "tracestate": f"atoll={sender}"})
    asyncio.run(tracing.answered(request, reply, client=(lambda: "ann") if of_client else None))
    [span] = recording.spans()
    assert span.attributes.get(PEER_SERVICE) == shown
    assert bool(span.attributes.get(FROM_OUTSIDE)) == (shown is None)


@pytest.mark.parametrize(("sample", "kept"), [(0.0, 3), (1.0, 10)], ids=["none", "all"])
def test_a_client_that_asks_too_often_is_recorded_by_chance_and_answered(record, sample, kept):
    """Otherwise one client could fill the store of a site, and have all its processes write spans."""
    recording = record(sample, service="gateway")
    allowed = iter(["ann"] * 3 + [None] * 7)
    told = []

    async def answer() -> web.StreamResponse:
        told.append(propagation.outgoing())
        return await reply()

    for _ in range(10):
        request = make_mocked_request("GET", "/compute/v2.1/servers", {"traceparent": PARENT})
        assert asyncio.run(tracing.answered(request, answer, client=lambda: next(allowed))).status == 200
    assert len(recording.spans()) == kept
    assert sum(each["traceparent"].endswith("-01") for each in told) == kept, "services record what the gateway records"
    assert {each["traceparent"][3:35] for each in told} == {"1" * 32}


def test_requests_of_another_site_share_their_room_in_the_store(record):
    """Otherwise they would make those go that this site chose by chance."""
    recording = record(service="gateway")
    for headers, peer in (({"traceparent": PARENT, "tracestate": "atoll=gateway@lyon"}, "lyon"), ({"traceparent": PARENT}, "")):
        asyncio.run(tracing.answered(make_mocked_request("GET", "/", headers), reply, peer=peer))
    of_lyon, of_nobody = recording.spans()
    assert of_lyon.attributes[store.ASKED_BY] == "site lyon"
    assert of_lyon.attributes[PEER_SERVICE] == "gateway"
    assert store.ASKED_BY not in of_nobody.attributes


def test_requests_of_other_gateways_are_recorded_as_they_say(record):
    recording = record(service="gateway")
    for _ in range(3):
        asyncio.run(tracing.answered(make_mocked_request("GET", "/", {"traceparent": PARENT}), reply))
    assert len(recording.spans()) == 3


def test_the_store_knows_who_had_a_request_recorded(record):
    recording = record(1.0, service="gateway")
    for client in (lambda: "ann", lambda: "", lambda: None):
        request = make_mocked_request("GET", "/compute/v2.1/servers", {"traceparent": PARENT})
        asyncio.run(tracing.answered(request, reply, client=client))
    assert [each.attributes.get(store.ASKED_BY) for each in recording.spans()] == ["ann", "", None]

"""The properties of services' answers that the gateway's tests rely on.

The same functions run against the small services of the unit tests (`tests/unit/gateway/gateway_cloud.py`) and against a real cloud
(`tests/across/test_service_contract.py`), both through a gateway: so the small ones can't answer in a way that the real ones do not.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple


class Answered(NamedTuple):
    """An answer: the status, the decoded body (`{}` if there is none), and the headers with names in lower case."""

    status: int
    body: Any
    headers: Mapping[str, str]


Ask = Callable[[str, str, str, Any], Awaitable[Answered]]
"""Sends a request to a service: service, method, path with query, and body as JSON or `None`."""


async def unknown_server_is_not_found(ask: Ask) -> None:
    for method in ("GET", "DELETE"):
        answer = await ask("compute", method, f"/servers/{uuid.uuid4()}", None)
        assert (answer.status, answer.body["itemNotFound"]["code"]) == (404, 404)
        assert "could not be found" in answer.body["itemNotFound"]["message"]


async def each_site_is_an_available_zone(ask: Ask) -> None:
    answer = await ask("compute", "GET", "/os-availability-zone", None)
    zones = {zone["zoneName"]: zone["zoneState"] for zone in answer.body["availabilityZoneInfo"]}
    assert zones
    assert set(answer.headers["x-atoll-site"].split(",")) <= set(zones)
    assert all(state == {"available": True} for state in zones.values())


async def lists_of_images_name_their_schema(ask: Ask) -> None:
    answer = await ask("image", "GET", "/v2/images?limit=5", None)
    assert answer.status == 200
    assert answer.body["first"].startswith("/v2/images")
    assert answer.body["schema"] == "/v2/schemas/images"
    assert isinstance(answer.body["images"], list)


async def network_lives_from_its_creation_to_its_deletion(ask: Ask) -> None:
    made = await ask("network", "POST", "/v2.0/networks", {"network": {"name": "contract"}})
    assert (made.status, made.body["network"]["name"]) == (201, "contract")
    path = f"/v2.0/networks/{made.body['network']['id']}"
    shown = await ask("network", "GET", path, None)
    assert (shown.status, shown.body["network"]["id"]) == (200, made.body["network"]["id"])
    listed = await ask("network", "GET", "/v2.0/networks?fields=id", None)
    assert {"id": made.body["network"]["id"]} in listed.body["networks"]
    assert (await ask("network", "DELETE", path, None)).status == 204
    gone = await ask("network", "GET", path, None)
    assert (gone.status, set(gone.body["NeutronError"])) == (404, {"type", "message", "detail"})


async def port_on_an_unknown_network_is_not_made(ask: Ask) -> None:
    answer = await ask("network", "POST", "/v2.0/ports", {"port": {"network_id": str(uuid.uuid4())}})
    assert (answer.status, answer.body["NeutronError"]["type"]) == (404, "NetworkNotFound")


CONTRACT = (
    unknown_server_is_not_found,
    each_site_is_an_available_zone,
    lists_of_images_name_their_schema,
    network_lives_from_its_creation_to_its_deletion,
    port_on_an_unknown_network_is_not_made,
)

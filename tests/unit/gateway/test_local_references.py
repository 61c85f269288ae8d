"""Requests whose references are at another site, answered by a site's services and its gateway, between small servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from bring_sites import Sites, running
from multidict import CIMultiDict
from shared_things import FLAVOR_BODY, NETWORK_BODY, OURS, SUBNET_BODY, Cloud, group, rule

from atoll.gateway.bring import Bringer
from atoll.gateway.bring.port_moves import MAKE_S, SETTLED_S
from atoll.gateway.groups import Groups
from atoll.gateway.local import LocalServices
from atoll.gateway.request.call import Call, Reply
from atoll.identifiers import default_group

DEFAULT = default_group(OURS)
N = "11111111-1111-1111-1111-111111111111"
P = "22222222-2222-2222-2222-222222222222"
Q = "33333333-3333-3333-3333-333333333333"
PORT = {
    "id": P, "name": "p", "network_id": N, "project_id": OURS, "mac_address": "fa:16:3e:00:00:01", "revision_number": 3, "device_id": "",
    "device_owner": "", "fixed_ips": [{"subnet_id": "s", "ip_address": "10.0.0.9"}], "security_groups": [], "tags": [],
    "qos_policy_id": None,
}  # fmt: skip
NET = {**NETWORK_BODY, "id": N}
SUBNET = {**SUBNET_BODY, "network_id": N}

Act = Callable[[Cloud, Cloud, LocalServices, Bringer, Sites], Awaitable[None]]


def trial(tmp_path: Path, act: Act) -> None:
    async def main() -> None:
        here, lyon = Cloud("here"), Cloud("lyon")
        for site in (here, lyon):
            site.things[f"security-groups/{DEFAULT}"] = {**group("default"), "id": DEFAULT, "revision_number": 1}
        async with running(here, lyon) as views:
            with closing(Bringer(views[0], tmp_path)) as bringer:
                await act(here, lyon, LocalServices(views[0], bringer), bringer, views[0])

    asyncio.run(main())


async def ask(local: LocalServices, body: Any, path: str = "/compute/v2.1/servers", method: str = "POST", version: str = "2.90") -> Reply:
    service, _, rest = path.lstrip("/").partition("/")
    headers = CIMultiDict({"X-Auth-Token": "user", "OpenStack-API-Version": f"compute {version}"})
    answer = await local.answer(Call(method, service, f"/{rest}", "", headers, json.dumps(body).encode(), "req-1"))
    return answer if isinstance(answer, Reply) else await answer.read()


def message(reply: Reply) -> str:
    return str(next(iter(reply.json().values()))["message"])


def lacks(site: Cloud, *needed: str, status: int = 400) -> None:
    """Have a site's services refuse servers unless the site has some resources."""

    async def fault(request: web.Request) -> web.StreamResponse | None:
        if request.method == "POST" and request.path.endswith("/servers"):
            if all(each in site.things for each in needed):
                return web.json_response({"server": {"id": "made"}}, status=202)
            return web.json_response({"badRequest": {"code": status, "message": "could not be found"}}, status=status)
        return None

    site.fault = fault


def test_server_that_names_no_network_gets_the_only_one_of_its_project(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, local: LocalServices, _bringer: Bringer, _view: Sites) -> None:
        lyon.things |= {f"networks/{N}": NET, "subnets/s": SUBNET}
        lacks(here)
        for body, version in (({"networks": "auto"}, "2.90"), ({}, "2.1"), ({"networks": []}, "2.1")):
            for gone in (f"networks/{N}", "subnets/s"):
                here.things.pop(gone, None)
            assert (await ask(local, {"server": {"name": "s", **body}}, version=version)).status == 202
            assert f"networks/{N}" in here.things, body
            local.bringer._bringing.clear()

    trial(tmp_path, act)


def test_server_that_wants_no_network_gets_none(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, local: LocalServices, _bringer: Bringer, _view: Sites) -> None:
        lyon.things |= {f"networks/{N}": NET}
        lacks(here)
        assert (await ask(local, {"server": {"name": "s", "networks": "none"}})).status == 202
        assert f"networks/{N}" not in here.things

    trial(tmp_path, act)


def test_server_that_names_no_network_is_refused_if_there_are_several_anywhere(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, local: LocalServices, _bringer: Bringer, _view: Sites) -> None:
        here.things |= {"networks/other": {**NET, "id": "other"}}
        lyon.things |= {f"networks/{N}": NET, "networks/theirs": {**NET, "id": "theirs", "project_id": "theirs"}}
        lacks(here)
        reply = await ask(local, {"server": {"name": "s", "networks": "auto"}})
        assert (reply.status, message(reply)) == (409, "Multiple possible networks found, use a Network ID to be more specific.")

    trial(tmp_path, act)


def test_server_without_a_network_is_not_made_while_a_site_that_may_have_one_is_away(tmp_path: Path):
    async def act(here: Cloud, _lyon: Cloud, local: LocalServices, _bringer: Bringer, view: Sites) -> None:
        lacks(here)
        view.away = ["nice"]
        reply = await ask(local, {"server": {"name": "s", "networks": "auto"}})
        assert (reply.status, reply.headers["X-Atoll-Missing"]) == (503, "nice")
        assert ("POST", "servers") not in [change[:2] for change in here.changes]

    trial(tmp_path, act)


def test_a_resource_that_no_reachable_site_has_may_be_at_an_unreachable_one(tmp_path: Path):
    async def act(here: Cloud, _lyon: Cloud, local: LocalServices, _bringer: Bringer, view: Sites) -> None:
        lacks(here, f"networks/{N}")
        body = {"server": {"networks": [{"uuid": N}]}}
        assert (await ask(local, body)).status == 400
        view.away = ["nice"]
        reply = await ask(local, body)
        assert (reply.status, reply.headers["X-Atoll-Missing"]) == (503, "nice")

    trial(tmp_path, act)


def test_kernel_and_ramdisk_come_before_their_image(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, local: LocalServices, _bringer: Bringer, _view: Sites) -> None:
        kernel, ramdisk = lyon.add_image(b"kernel"), lyon.add_image(b"ramdisk")
        image = lyon.add_image(b"image", kernel_id=kernel, ramdisk_id=ramdisk)

        async def fault(request: web.Request) -> web.StreamResponse | None:
            if request.path.endswith("/servers"):
                return web.json_response({"badRequest": {"code": 400, "message": "no"}}, status=202 if image in here.images else 400)
            return None

        here.fault = fault
        assert (await ask(local, {"server": {"imageRef": image, "networks": "none"}})).status == 202
        assert list(here.images)[-1] == image
        assert set(here.images) == {kernel, ramdisk, image}

    trial(tmp_path, act)


def test_image_is_not_brought_without_its_kernel(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, local: LocalServices, _bringer: Bringer, _view: Sites) -> None:
        image = lyon.add_image(b"image", kernel_id="0" * 8 + "-0000-0000-0000-" + "0" * 12)
        lacks(here, "never")
        assert (await ask(local, {"server": {"imageRef": image, "networks": "none"}})).status == 400
        assert here.images == {}

    trial(tmp_path, act)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/image/v2/images", {"id": "i", "name": "i", "kernel_id": "KERNEL"}),
        ("PATCH", "/image/v2/images/i", [{"op": "add", "path": "/ramdisk_id", "value": "KERNEL"}]),
    ],
)
def test_kernel_of_an_image_that_is_made_here_comes_here(tmp_path: Path, method: str, path: str, body: Any):
    async def act(here: Cloud, lyon: Cloud, local: LocalServices, _bringer: Bringer, _view: Sites) -> None:
        kernel = lyon.add_image(b"kernel")
        await ask(local, json.loads(json.dumps(body).replace("KERNEL", kernel)), path, method)
        assert here.images[kernel]["status"] == "active"

    trial(tmp_path, act)


def test_reference_that_can_t_be_brought_is_refused_with_the_name_of_its_site(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, local: LocalServices, _bringer: Bringer, _view: Sites) -> None:
        lacks(here, "os-server-groups/g")
        lyon.things["os-server-groups/g"] = {"id": "g"}
        reply = await ask(local, {"server": {"networks": "none"}, "os:scheduler_hints": {"group": "g"}})
        assert (reply.status, message(reply)) == (
            409,
            (
                "server group g is at lyon and can't be used at here: a group's policy holds among the servers of one site: "
                "use a group of here, or create the server at lyon"
            ),
        )

    trial(tmp_path, act)


def test_hint_that_nova_would_pass_over_is_looked_at_beforehand(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, local: LocalServices, _bringer: Bringer, _view: Sites) -> None:
        lacks(here)
        lyon.things["servers/s"] = {"id": "s"}
        body = {"server": {"networks": "none"}, "os:scheduler_hints": {"same_host": ["s"]}}
        reply = await ask(local, body)
        assert (reply.status, message(reply)) == (
            409,
            "server s is at lyon and can't be used at here: two sites share no host: create the server at lyon",
        )
        body["os:scheduler_hints"] = {"different_host": ["s"]}
        assert (await ask(local, body)).status == 202

    trial(tmp_path, act)


def test_network_is_not_brought_without_its_policy(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, local: LocalServices, _bringer: Bringer, _view: Sites) -> None:
        lacks(here, f"networks/{N}")
        lyon.things |= {f"networks/{N}": {**NET, "qos_policy_id": Q}, "subnets/s": SUBNET}
        reply = await ask(local, {"server": {"networks": [{"uuid": N}]}})
        assert (reply.status, message(reply)) == (
            409,
            f"network {N} of lyon can't be brought to here, which lacks QoS policy {Q} that it names",
        )
        here.things[f"qos/policies/{Q}"] = {"id": Q}
        assert (await ask(local, {"server": {"networks": [{"uuid": N}]}})).status == 202
        assert here.things[f"networks/{N}"]["qos_policy_id"] == Q

    trial(tmp_path, act)


def test_change_of_copies_is_refused_if_one_site_lacks_what_it_names(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, local: LocalServices, _bringer: Bringer, _view: Sites) -> None:
        call = Call("PUT", "network", f"/v2.0/networks/{N}", "", CIMultiDict({"X-Auth-Token": "user"}), None, "req-1")
        change = call.with_(json={"network": {"qos_policy_id": Q}})
        here.things |= {f"networks/{N}": NET, f"qos/policies/{Q}": {"id": Q}}
        assert await local.refuses_everywhere(change) is None
        lyon.things[f"networks/{N}"] = NET
        refusal = await local.refuses_everywhere(change)
        assert refusal is not None
        assert message(refusal) == f"QoS policy {Q} is at here and not at lyon, which has a copy of the resource to change"
        assert await local.refuses_everywhere(call.with_(json={"network": {"name": "n"}})) is None

    trial(tmp_path, act)


# Requests of Neutron's that belong to another site


def refusing(site: Cloud, end: str) -> None:
    async def fault(request: web.Request) -> web.StreamResponse | None:
        if request.method in {"POST", "PUT"} and request.path.endswith(end):
            return web.json_response({"NeutronError": {"type": "X", "message": "no", "detail": ""}}, status=400)
        return None

    site.fault = fault


def test_request_that_leads_elsewhere_is_not_found_here_so_that_the_gateway_follows(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, local: LocalServices, _bringer: Bringer, _view: Sites) -> None:
        refusing(here, "/tap_services")
        lyon.things[f"ports/{P}"] = PORT
        assert (await ask(local, {"tap_service": {"port_id": P}}, "/network/v2.0/taas/tap_services")).status == 404

    trial(tmp_path, act)


def test_request_that_something_keeps_here_is_refused(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, local: LocalServices, _bringer: Bringer, _view: Sites) -> None:
        refusing(here, "/port_pairs")
        here.things["ports/own"] = {**PORT, "id": "own"}
        lyon.things[f"ports/{P}"] = PORT
        reply = await ask(local, {"port_pair": {"ingress": "own", "egress": P}}, "/network/v2.0/sfc/port_pairs")
        assert (reply.status, message(reply)) == (
            409,
            f"port {P} is at lyon and can't be used at here: only resources of one site can be tied together",
        )

    trial(tmp_path, act)


OUTSIDE = {**NET, "router:external": True}
LEADS = "it leads out of its own site: use an external network of here, or create what needs it at lyon"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/network/v2.0/routers", {"router": {"external_gateway_info": {"network_id": N}}}),
        ("/network/v2.0/floatingips", {"floatingip": {"floating_network_id": N}}),
        ("/network/v2.0/ports", {"port": {"network_id": N}}),
    ],
)
def test_resources_on_an_external_network_are_created_at_its_site(tmp_path: Path, path: str, body: Any):
    """A copy has no way out: a router and a floating IP on it would lead nowhere, without an error."""

    async def act(here: Cloud, lyon: Cloud, local: LocalServices, _bringer: Bringer, _view: Sites) -> None:
        lyon.things |= {f"networks/{N}": OUTSIDE, "subnets/s": SUBNET}
        refusing(here, path.rpartition("/")[2])
        reply = await ask(local, body, path)
        assert reply.status == 404, "expected 404, so that the gateway looks for the site"
        assert message(reply).startswith(f"external network {N} is at lyon and can't be used at here"), (
            "a request that names this site must be refused with the reason"
        )
        assert here.made("networks") == []

    trial(tmp_path, act)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/network/v2.0/routers/r", {"router": {"external_gateway_info": {"network_id": N}}}),
        ("PUT", "/network/v2.0/routers/r/add_external_gateways", {"router": {"external_gateways": [{"network_id": N}]}}),
        ("POST", "/compute/v2.1/servers", {"server": {"networks": [{"uuid": N}]}}),
        ("POST", "/compute/v2.1/servers/m/os-interface", {"interfaceAttachment": {"net_id": N}}),
    ],
)
def test_external_network_is_not_used_at_another_site(tmp_path: Path, method: str, path: str, body: Any):
    async def act(here: Cloud, lyon: Cloud, local: LocalServices, _bringer: Bringer, _view: Sites) -> None:
        lyon.things |= {f"networks/{N}": OUTSIDE, "subnets/s": SUBNET}
        refusing(here, path.rpartition("/")[2])
        reply = await ask(local, body, path, method)
        assert (reply.status, message(reply)) == (409, f"external network {N} is at lyon and can't be used at here: {LEADS}")
        assert here.made("networks") == []

    trial(tmp_path, act)


def test_subnet_of_an_external_network_does_not_bring_it(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, local: LocalServices, _bringer: Bringer, _view: Sites) -> None:
        lyon.things |= {f"networks/{N}": OUTSIDE, "subnets/s": SUBNET}
        refusing(here, "/add_router_interface")
        reply = await ask(local, {"subnet_id": "s"}, "/network/v2.0/routers/r/add_router_interface", "PUT")
        assert (reply.status, message(reply)) == (
            409,
            f"external network {N} is at lyon and stays there: it leads out of its own site",
        )
        assert here.made("networks") == []

    trial(tmp_path, act)


def test_floating_ip_does_not_lead_to_a_port_of_another_site(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, local: LocalServices, _bringer: Bringer, _view: Sites) -> None:
        refusing(here, "/floatingips/f")
        lyon.things[f"ports/{P}"] = PORT
        reply = await ask(local, {"floatingip": {"port_id": P}}, "/network/v2.0/floatingips/f", "PUT")
        assert (reply.status, message(reply)) == (
            409,
            f"port {P} is at lyon and can't be used at here: a floating IP leads to ports of its own site: create one at lyon",
        )

    trial(tmp_path, act)


# Ports that move


def with_port(here: Cloud, lyon: Cloud, **more: Any) -> dict[str, Any]:
    lacks(here, f"ports/{P}")
    lyon.things |= {f"networks/{N}": NET, "subnets/s": SUBNET, f"ports/{P}": {**PORT, **more}}
    return {"server": {"networks": [{"port": P}]}}


def test_port_moves_with_its_network(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, local: LocalServices, bringer: Bringer, view: Sites) -> None:
        assert (await ask(local, with_port(here, lyon))).status == 202
        assert f"ports/{P}" not in lyon.things
        moved = here.things[f"ports/{P}"]
        assert {name: moved[name] for name in ("mac_address", "fixed_ips", "network_id")} == {
            name: PORT[name] for name in ("mac_address", "fixed_ips", "network_id")
        }
        assert f"networks/{N}" in here.things
        assert bringer._ledger.moves() == []
        # The copy is there before the port is deleted, both with the user's token.
        changes = [(site.name, *change[:3]) for site in (here, lyon) for change in site.changes if change[1].startswith("ports")]
        assert changes == [("here", "POST", "ports", "user"), ("lyon", "DELETE", f"ports/{P}", "user")]
        asked = [(site, method) for site, method, target in view.asked if "/ports" in target and method != "GET"]
        assert asked == [("here", "POST"), ("lyon", "DELETE")]

    trial(tmp_path, act)


@pytest.mark.parametrize(
    ("more", "others", "why"),
    [
        ({"device_id": "server", "device_owner": "compute:lyon"}, {}, "in use there by compute:lyon server"),
        ({}, {"floatingips/f": {"id": "f", "port_id": P}}, "a floating IP refers to it"),
        ({}, {"trunks/t": {"id": "t", "port_id": P}}, "a trunk refers to it"),
    ],
)
def test_port_in_use_stays(tmp_path: Path, more: dict[str, Any], others: dict[str, Any], why: str):
    async def act(here: Cloud, lyon: Cloud, local: LocalServices, bringer: Bringer, _view: Sites) -> None:
        body = with_port(here, lyon, **more)
        lyon.things |= others
        reply = await ask(local, body)
        assert (reply.status, message(reply)) == (409, f"port {P} is at lyon, and {why}: it can't be moved to here")
        assert f"ports/{P}" in lyon.things
        assert f"ports/{P}" not in here.things
        assert bringer._ledger.moves() == []

    trial(tmp_path, act)


def test_port_that_would_lose_something_stays(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, local: LocalServices, bringer: Bringer, _view: Sites) -> None:
        body = with_port(here, lyon, port_security_enabled=True)  # this site's Neutron gives a port no such attribute
        reply = await ask(local, body)
        assert (reply.status, message(reply)) == (
            409,
            f"port {P} is at lyon and would not be the same at here: port_security_enabled would differ",
        )
        assert f"ports/{P}" in lyon.things
        assert f"ports/{P}" not in here.things
        assert bringer._ledger.moves() == []

    trial(tmp_path, act)


def test_port_that_was_changed_meanwhile_stays(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, local: LocalServices, bringer: Bringer, _view: Sites) -> None:
        seen = []

        async def fault(request: web.Request) -> web.StreamResponse | None:
            if request.method == "DELETE":
                seen.append(request.headers.get("If-Match"))
                return web.json_response({"NeutronError": {"message": "revision"}}, status=412)
            return None

        body = with_port(here, lyon)
        lyon.fault = fault
        reply = await ask(local, body)
        assert (reply.status, message(reply)) == (
            409,
            f"port {P} is at lyon and can't be moved to here: it has been changed meanwhile",
        )
        assert seen == ["revision_number=3"]
        assert f"ports/{P}" not in here.things
        assert bringer._ledger.moves() == []

    trial(tmp_path, act)


def test_port_whose_deletion_was_not_answered_is_settled_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The port is at one site in the end, whether or not the deletion happened."""

    async def act(here: Cloud, lyon: Cloud, local: LocalServices, bringer: Bringer, _view: Sites) -> None:
        for happened in (True, False):

            async def fault(request: web.Request, happened: bool = happened) -> web.StreamResponse | None:
                if request.method == "DELETE" and request.path.endswith(P):
                    if happened:
                        lyon.things.pop(f"ports/{P}", None)
                    assert request.transport is not None
                    request.transport.abort()
                    return web.Response()
                return None

            body = with_port(here, lyon)
            lyon.fault = fault
            bringer.moves._seen_s[P] = 0.0  # an earlier move of the port, which has been settled since
            assert (await ask(local, body)).status == 503
            assert f"ports/{P}" in here.things
            assert bringer.moves._due(SETTLED_S + MAKE_S + 1) == [], "the move that was cut waits from now on"
            ((port, source, _since),) = bringer._ledger.moves()
            assert (port, source) == (P, "lyon")
            reply = await ask(local, {"server": {"networks": [{"port": P}]}})  # the port is at this site, so Nova may use it
            assert reply.status == 202
            lyon.fault = None
            await bringer.moves._settle(P, "lyon")
            assert [f"ports/{P}" in site.things for site in (here, lyon)] == [happened, not happened]
            assert bringer._ledger.moves() == []
            for gone in (f"ports/{P}", f"networks/{N}", "subnets/s"):
                here.things.pop(gone, None)
            bringer._bringing.clear()

    trial(tmp_path, act)
    assert SETTLED_S >= 30


@pytest.mark.parametrize("noted_s", [0.0, 4e9])
def test_open_move_is_settled_after_a_while_whatever_the_clock_was(tmp_path: Path, noted_s: float):
    async def act(_here: Cloud, _lyon: Cloud, _local: LocalServices, bringer: Bringer, _view: Sites) -> None:
        moves = bringer.moves
        bringer._ledger.begin_move(P, "lyon", noted_s)
        long_s = SETTLED_S + MAKE_S
        assert moves._due(1000.0) == []
        assert moves._due(1000.0 + long_s) == []
        moves._active.add(P)  # a request is about it again
        assert moves._due(1001.0 + long_s) == []
        moves._active.clear()
        assert moves._due(1002.0 + long_s) == []
        assert moves._due(1003.0 + 2 * long_s) == [(P, "lyon")]
        bringer._ledger.end_move(P)
        assert moves._due(1004.0 + 2 * long_s) == []

    trial(tmp_path, act)


def test_port_that_is_on_its_way_is_not_moved_twice(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, local: LocalServices, bringer: Bringer, _view: Sites) -> None:
        body = with_port(here, lyon)
        bringer._ledger.begin_move(P, "lyon", 1.0)
        reply = await ask(local, body)
        assert (reply.status, message(reply)) == (409, f"port {P} is on its way from lyon to here: try again in a minute")
        assert f"ports/{P}" in lyon.things

    trial(tmp_path, act)


# The group `default`


def test_group_default_gets_the_rules_that_it_has_elsewhere(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, local: LocalServices, _bringer: Bringer, view: Sites) -> None:
        lacks(here)
        first, ssh, web_rule = rule("first", DEFAULT), rule("ssh", DEFAULT), rule("web", DEFAULT, "id-web")
        here.things[f"security-groups/{DEFAULT}"] = {**group("default", first), "id": DEFAULT, "revision_number": 1}
        here.things["security-group-rules/first"] = first
        lyon.things[f"security-groups/{DEFAULT}"] = {**group("default", ssh, web_rule), "id": DEFAULT, "revision_number": 4}
        lyon.things["security-groups/id-web"] = group("web")
        assert (await ask(local, {"server": {"networks": "none"}})).status == 202
        (made,) = here.made("security-group-rules")
        assert [(each["id"], each.get("remote_group_id")) for each in made["security_group_rules"]] == [("ssh", None), ("web", "id-web")]
        assert "security-groups/id-web" in here.things
        assert "security-group-rules/first" in here.deleted()
        before = len(view.asked)
        assert (await ask(local, {"server": {"networks": "none"}})).status == 202
        assert len(view.asked) == before + 1, "the group must be compared once only"

    trial(tmp_path, act)


@pytest.mark.parametrize(
    ("body", "path", "used"),
    [
        ({"server": {"networks": "none"}}, "/compute/v2.1/servers", True),
        ({"server": {"networks": "none", "security_groups": [{"name": "web"}]}}, "/compute/v2.1/servers", False),
        ({"server": {"networks": "none", "security_groups": [{"name": "default"}]}}, "/compute/v2.1/servers", True),
        ({"port": {"network_id": N}}, "/network/v2.0/ports", True),
        ({"port": {"network_id": N, "security_groups": [DEFAULT]}}, "/network/v2.0/ports", True),
        ({"port": {"network_id": N, "security_groups": ["web"]}}, "/network/v2.0/ports", False),
        ({"security_group_rule": {"security_group_id": "web", "remote_group_id": DEFAULT}}, "/network/v2.0/security-group-rules", True),
        ({"security_group_rule": {"security_group_id": "web"}}, "/network/v2.0/security-group-rules", False),
        ({"addSecurityGroup": {"name": "default"}}, "/compute/v2.1/servers/s/action", True),
        ({"os-stop": None}, "/compute/v2.1/servers/s/action", False),
        ({"network": {"name": "n"}}, "/network/v2.0/networks", False),
    ],
)
def test_only_requests_that_use_the_group_default_look_for_its_rules(tmp_path: Path, body: Any, path: str, used: bool):
    async def act(here: Cloud, _lyon: Cloud, local: LocalServices, _bringer: Bringer, view: Sites) -> None:
        await ask(local, body, path)
        assert any(site == "lyon" and "/things/security-group/" in target for site, _method, target in view.asked) == used

    trial(tmp_path, act)


def test_group_default_that_was_changed_here_too_keeps_its_rules(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, local: LocalServices, _bringer: Bringer, _view: Sites) -> None:
        lacks(here)
        here.things[f"security-groups/{DEFAULT}"] = {**group("default", rule("a", DEFAULT)), "id": DEFAULT, "revision_number": 2}
        lyon.things[f"security-groups/{DEFAULT}"] = {**group("default", rule("b", DEFAULT)), "id": DEFAULT, "revision_number": 9}
        assert (await ask(local, {"server": {"networks": "none"}})).status == 202
        assert here.changes == []

    trial(tmp_path, act)


def test_nothing_more_is_asked_of_another_site_when_all_is_here(tmp_path: Path):
    async def act(here: Cloud, _lyon: Cloud, local: LocalServices, _bringer: Bringer, view: Sites) -> None:
        lacks(here)
        here.things |= {"flavors/f": FLAVOR_BODY, f"networks/{N}": NET}
        body = {"server": {"flavorRef": "f", "networks": [{"uuid": N}], "security_groups": [{"name": "web"}]}}
        await ask(local, body)  # the token's project
        view.asked.clear()
        assert (await ask(local, body)).status == 202
        assert view.asked == [("here", "POST", "/compute/v2.1/servers")]

    trial(tmp_path, act)


def test_another_port_with_the_id_is_not_taken_for_the_copy(tmp_path: Path):
    """A broken-in member shows the id of another project's port of this site, which must not be deleted when the move is settled."""

    async def act(here: Cloud, lyon: Cloud, local: LocalServices, bringer: Bringer, _view: Sites) -> None:
        body = with_port(here, lyon)
        refuses = here.fault
        here.things[f"ports/{P}"] = {**PORT, "project_id": "victim"}

        async def fault(request: web.Request) -> web.StreamResponse | None:
            if request.method == "POST" and request.path.endswith("/ports"):
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            if request.headers.get("X-Auth-Token") == "user" and request.path.endswith(P):
                return web.json_response({"NeutronError": {"message": "not found"}}, status=404)
            if request.method == "POST" and request.path.endswith("/servers"):
                return web.json_response({"badRequest": {"code": 400, "message": "could not be found"}}, status=400)
            return await refuses(request) if refuses is not None else None

        here.fault = fault
        reply = await ask(local, body)
        for port, source, _since in bringer._ledger.moves():
            await bringer.moves._settle(port, source)
        assert here.things[f"ports/{P}"]["project_id"] == "victim"
        assert f"ports/{P}" in lyon.things
        assert reply.status == 409
        assert message(reply) == f"port {P} is at lyon and can't be moved to here, which has another port with this id"

    trial(tmp_path, act)


@pytest.mark.parametrize(("user", "status", "most"), [("", 401, 1), ("u", 400, 0)])
def test_one_request_makes_no_more_of_them_than_it_may(tmp_path: Path, user: str, status: int, most: int):
    """Each reference is looked for at every site: without a bound, a stranger's request would make thousands of requests."""

    async def act(here: Cloud, _lyon: Cloud, local: LocalServices, _bringer: Bringer, view: Sites) -> None:
        async def fault(request: web.Request) -> web.StreamResponse | None:
            return web.json_response({}, status=401) if request.path.startswith("/compute") else None

        here.fault = fault
        hints = {"server": {"networks": "none"}, "os:scheduler_hints": {"same_host": [f"s{number}" for number in range(1000)]}}
        headers = CIMultiDict({"X-Auth-Token": "user", "OpenStack-API-Version": "compute 2.90"})
        call = Call("POST", "compute", "/v2.1/servers", "", headers, json.dumps(hints).encode(), "req-1", user)
        answer = await local.answer(call)
        assert answer.status == status
        assert len([target for _site, _method, target in view.asked if "servers" in target]) <= most

    trial(tmp_path, act)


def test_a_site_that_shares_nova_brings_the_image_although_nova_would_find_it_elsewhere(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, local: LocalServices, bringer: Bringer, view: Sites) -> None:
        wanted: list[str] = []

        async def bring(_client: Any, _call: Call, mentioned: Any, _brought: Any) -> None:
            wanted.extend(str(each.reference) for each in mentioned)

        vars(bringer)["_bring_mentions"] = bring
        lacks(here)
        for owners in ({}, {"here": "here", "rome": "here"}):
            view.groups = Groups("here", owners)
            await ask(local, {"server": {"imageRef": N, "networks": "none"}})
            assert any("image" in each for each in wanted) == bool(owners)

    trial(tmp_path, act)

"""Flavors, key pairs, networks and security groups, between servers that answer as Nova and Neutron do."""

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
from shared_things import FLAVOR_BODY, NETWORK_BODY, OURS, SUBNET_BODY, THEIRS, Cloud, group, rule

from atoll.gateway.bring import Bringer
from atoll.gateway.bring.references import FLAVOR, KEY_PAIR, NETWORK, SECURITY_GROUP, SUBNET, Reference
from atoll.gateway.bring.service_client import BringRefused
from atoll.gateway.request.call import Call
from atoll.identifiers import GATEWAY_PROJECT, default_group

DEFAULT = default_group(OURS)


def trial(tmp_path: Path, act: Callable[[Cloud, Cloud, Bringer, Sites], Awaitable[None]]) -> None:
    async def main() -> None:
        here, lyon = Cloud("here"), Cloud("lyon")
        async with running(here, lyon) as views:
            with closing(Bringer(views[0], tmp_path)) as bringer:
                await act(here, lyon, bringer, views[0])

    asyncio.run(main())


def call(body: Any, service: str = "compute", path: str = "/v2.1/servers") -> Call:
    return Call("POST", service, path, "", CIMultiDict({"X-Auth-Token": "user"}), json.dumps(body).encode(), "req-1")


def test_missing_is_what_this_site_does_not_show(tmp_path: Path):
    async def act(here: Cloud, _lyon: Cloud, bringer: Bringer, _view: Sites) -> None:
        here.things = {"flavors/f": FLAVOR_BODY, "security-groups/x": group("web")}
        server = {"flavorRef": "f", "key_name": "k k", "networks": [{"uuid": "n"}], "security_groups": [{"name": "web"}, {"name": "db"}]}
        missing = [each.reference for each in await bringer.missing(call({"server": server}))]
        assert missing == [Reference(KEY_PAIR, "k k"), Reference(NETWORK, "n"), Reference(SECURITY_GROUP, "db")]

    trial(tmp_path, act)


def test_image_that_is_not_yet_whole_is_missing(tmp_path: Path):
    async def act(here: Cloud, _lyon: Cloud, bringer: Bringer, _view: Sites) -> None:
        image = here.add_image(b"x", status="queued")
        assert [str(each.reference) for each in await bringer.missing(call({"server": {"imageRef": image}}))] == [f"image {image}"]

    trial(tmp_path, act)


def test_flavor(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, bringer: Bringer, _view: Sites) -> None:
        lyon.things["flavors/f"] = FLAVOR_BODY
        brought = await bringer.bring([Reference(FLAVOR, "f")], "user")
        (made,) = here.made("flavors")
        assert made["flavor"] == {name: value for name, value in FLAVOR_BODY.items() if name not in {"links", "extra_specs"}} | {"swap": 0}
        assert here.made("flavors/f/os-extra_specs") == [{"extra_specs": {"a": "b"}}]
        assert {token for _, _, token, _ in here.changes} == {"admin"}
        assert brought is not None
        await brought.undo()
        assert here.deleted() == ["flavors/f"]

    trial(tmp_path, act)


def test_private_flavor_is_for_the_project_alone(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, bringer: Bringer, _view: Sites) -> None:
        lyon.things["flavors/f"] = {**FLAVOR_BODY, "os-flavor-access:is_public": False}
        lyon.access = [{"tenant": OURS}]
        assert await bringer.bring([Reference(FLAVOR, "f")], "user") is not None
        assert here.made("flavors/f/action") == [{"addTenantAccess": {"tenant": OURS}}]

    trial(tmp_path, act)


def test_key_pair_is_made_by_the_user(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, bringer: Bringer, _view: Sites) -> None:
        lyon.things["os-keypairs/k"] = {"name": "k", "public_key": "ssh-rsa A", "type": "ssh", "fingerprint": "x"}
        brought = await bringer.bring([Reference(KEY_PAIR, "k")], "user")
        assert here.changes == [("POST", "os-keypairs", "user", {"keypair": {"name": "k", "public_key": "ssh-rsa A", "type": "ssh"}})]
        assert brought is not None
        await brought.undo()
        assert here.changes[-1] == ("DELETE", "os-keypairs/k", "admin", None)

    trial(tmp_path, act)


@pytest.mark.parametrize(("key", "brought"), [("ssh-rsa A", True), ("ssh-rsa B", False)])
def test_key_pair_that_the_user_makes_here_meanwhile(tmp_path: Path, key: str, brought: bool):
    async def act(here: Cloud, lyon: Cloud, bringer: Bringer, _view: Sites) -> None:
        lyon.things["os-keypairs/k"] = {"name": "k", "public_key": "ssh-rsa A", "type": "ssh"}

        async def meanwhile(request: web.Request) -> None:
            if request.method == "POST" and "os-keypairs" in request.path:
                here.things["os-keypairs/k"] = {"name": "k", "public_key": key, "type": "ssh"}

        here.fault = meanwhile
        if brought:
            assert await bringer.bring([Reference(KEY_PAIR, "k")], "user") is not None
        else:
            with pytest.raises(BringRefused, match="another key pair k was made here in the meantime"):
                await bringer.bring([Reference(KEY_PAIR, "k")], "user")

    trial(tmp_path, act)


def test_network_and_its_subnet_that_are_wanted_at_the_same_time_are_made_once(tmp_path: Path):
    """Neutron takes a minute to refuse the second of two networks of one id, since it retries."""

    async def act(here: Cloud, lyon: Cloud, bringer: Bringer, _view: Sites) -> None:
        lyon.things = {"networks/n": NETWORK_BODY, "subnets/s": SUBNET_BODY}
        assert await bringer.bring([Reference(NETWORK, "n"), Reference(SUBNET, "s")], "user") is not None
        assert len(here.made("networks")) == 1
        assert len(here.made("subnets")) == 1

    trial(tmp_path, act)


def test_network_comes_with_its_subnets(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, bringer: Bringer, _view: Sites) -> None:
        lyon.things = {"networks/n": NETWORK_BODY, "subnets/s": SUBNET_BODY}
        assert await bringer.bring([Reference(NETWORK, "n")], "user") is not None
        assert here.made("networks") == [{"network": {"id": "n", "name": "n", "project_id": OURS, "description": ""}}]
        expected = {"id": "s", "network_id": "n", "project_id": OURS, "cidr": "10.0.0.0/24", "ip_version": 4, "gateway_ip": None}
        assert here.made("subnets") == [{"subnets": [expected]}]
        assert ("PUT", "networks/n/tags", "admin", {"tags": ["t"]}) in here.changes
        assert here.made("rbac-policies") == []

    trial(tmp_path, act)


def test_network_of_another_project_is_opened_to_this_one_alone(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, bringer: Bringer, _view: Sites) -> None:
        lyon.things = {"networks/n": {**NETWORK_BODY, "project_id": THEIRS, "shared": True}}
        lyon.share("network", "n")
        assert await bringer.bring([Reference(NETWORK, "n")], "user") is not None
        assert here.things["networks/n"]["project_id"] == THEIRS
        assert "shared" not in here.things["networks/n"]
        policy = {"object_type": "network", "object_id": "n", "action": "access_as_shared", "target_tenant": OURS}
        assert here.made("rbac-policies") == [{"rbac_policy": policy | {"project_id": GATEWAY_PROJECT}}]

    trial(tmp_path, act)


def test_security_groups_come_with_those_that_they_name(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, bringer: Bringer, _view: Sites) -> None:
        default = {**group("default", rule("r6", DEFAULT, DEFAULT)), "id": DEFAULT, "revision_number": 1}
        web_group = group("web", rule("r1", "id-web", "id-db"), rule("r2", "id-web", DEFAULT), rule("r3", "id-web", "id-web"))
        others = (group("db", rule("r4", "id-db", "id-web")), default)
        lyon.things = {f"security-groups/{each['id']}": each for each in (web_group, *others)}
        here.things[f"security-groups/{DEFAULT}"] = default
        assert await bringer.bring([Reference(SECURITY_GROUP, "web")], "user") is not None
        assert {key for key in here.things if key.startswith("security-groups/")} == {
            f"security-groups/{key}" for key in (DEFAULT, "id-web", "id-db")
        }
        rules = {
            each["id"]: each.get("remote_group_id") for made in here.made("security-group-rules") for each in made["security_group_rules"]
        }
        assert rules == {"r1": "id-db", "r2": DEFAULT, "r3": "id-web", "r4": "id-web"}
        assert all(
            len({each["security_group_id"] for each in made["security_group_rules"]}) == 1 for made in here.made("security-group-rules")
        )
        assert here.deleted() == ["security-group-rules/default-egress"] * 2

    trial(tmp_path, act)


def test_security_group_is_refused_whose_rule_names_what_can_t_be_brought(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, bringer: Bringer, _view: Sites) -> None:
        narrow = rule("r5", "id-web", remote_address_group_id="addresses")
        lyon.things = {"security-groups/id-web": group("web", narrow)}
        with pytest.raises(BringRefused) as refused:
            await bringer.bring([Reference(SECURITY_GROUP, "web")], "user")
        why = "rule of a security group r5 of lyon can't be brought to here, which lacks address group addresses that it names"
        assert str(refused.value) == why
        lyon.things = {"security-groups/id-web": group("web", rule("r1", "id-web", "id-hidden"))}
        with pytest.raises(BringRefused, match="names security group id-hidden, which lyon does not show to this project"):
            await bringer.bring([Reference(SECURITY_GROUP, "web")], "user")
        assert here.changes == []

    trial(tmp_path, act)


def test_nothing_is_brought_if_something_is_nowhere(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, bringer: Bringer, _view: Sites) -> None:
        lyon.things["flavors/f"] = FLAVOR_BODY
        assert await bringer.bring([Reference(FLAVOR, "f"), Reference(NETWORK, "n")], "user") is None
        assert here.changes == []

    trial(tmp_path, act)


def test_created_resources_are_undone_if_another_one_is_refused(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, bringer: Bringer, _view: Sites) -> None:
        lyon.things = {"flavors/f": FLAVOR_BODY, "networks/n": NETWORK_BODY, "subnets/s": SUBNET_BODY}
        here.refuse = "subnets"
        with pytest.raises(BringRefused, match="network n is at lyon and can't be brought to here"):
            await bringer.bring([Reference(FLAVOR, "f"), Reference(NETWORK, "n")], "user")
        assert here.things == {}

    trial(tmp_path, act)


def test_two_requests_share_what_is_made_and_the_last_to_fail_undoes_it(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, bringer: Bringer, _view: Sites) -> None:
        lyon.things["flavors/f"] = FLAVOR_BODY
        first, second = await asyncio.gather(*(bringer.bring([Reference(FLAVOR, "f")], "user") for _ in range(2)))
        assert len(here.made("flavors")) == 1
        assert first is not None
        assert second is not None
        await first.undo()
        assert "flavors/f" in here.things
        await second.undo()
        assert here.things == {}

    trial(tmp_path, act)


def test_resources_that_another_request_used_stay(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, bringer: Bringer, _view: Sites) -> None:
        lyon.things["flavors/f"] = FLAVOR_BODY
        first, _second = await asyncio.gather(*(bringer.bring([Reference(FLAVOR, "f")], "user") for _ in range(2)))
        assert first is not None
        await first.undo()
        assert "flavors/f" in here.things

    trial(tmp_path, act)


def test_a_resource_deleted_since_is_brought_again(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, bringer: Bringer, _view: Sites) -> None:
        lyon.things["flavors/f"] = FLAVOR_BODY
        for _ in range(2):
            assert await bringer.bring([Reference(FLAVOR, "f")], "user") is not None
            del here.things["flavors/f"]
        assert len(here.made("flavors")) == 2

    trial(tmp_path, act)


def test_image_that_is_shared_is_shown_to_the_project(tmp_path: Path):
    async def act(here: Cloud, lyon: Cloud, bringer: Bringer, _view: Sites) -> None:
        image = lyon.add_image(b"data" * 1000, visibility="shared", owner=THEIRS)
        lyon.members[image] = {OURS}
        members: list[tuple[str, str, Any]] = []

        async def fault(request: web.Request) -> web.StreamResponse | None:
            if "/members" in request.path:
                members.append((request.method, request.headers["X-Auth-Token"], await request.json()))
                return web.json_response({})
            hidden = request.path.startswith("/image/") and request.method == "GET" and request.headers["X-Auth-Token"] == "user"
            return web.Response(status=404) if hidden else None

        here.fault = fault
        assert await bringer.bring([Reference("image", image)], "user") is not None
        assert here.data[image] == b"data" * 1000
        assert members == [("POST", "admin", {"member": OURS}), ("PUT", "user", {"status": "accepted"})]

    trial(tmp_path, act)

"""Operations that a site carries out later for another one: only those that their requester might have done to this very object."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from bring_sites import Site, running
from replica_sites import ADMIN, PROJECT, Sites, View, call

from atoll.gateway.answers import REPLICA_TAG, query_by_name
from atoll.gateway.bring.images import ImageTransfers
from atoll.gateway.copies.pending_operation import PendingOperation
from atoll.gateway.copies.perform import Outcome, Performer
from atoll.gateway.request.call import Call
from atoll.gateway.request.requester import Requester

OWNER = Requester("user", PROJECT, ("member",))
STRANGER = Requester("stranger", "elsewhere", ("member",))
OPERATOR = Requester("admin", "admin", ("admin",))
IMAGE = "/v2/images/11111111-2222-4333-8444-555555555555"
NETWORK = "/v2.0/networks/n"


def wanted(asked: Call, requester: Requester | None = OWNER, **more: Any) -> PendingOperation:
    return replace(PendingOperation.of("lyon", asked, "cut off", requester), **more)


def perform(operation: PendingOperation, **things: dict[str, Any]) -> tuple[Outcome, list[tuple[str, str]]]:
    """Return the outcome of an operation at lyon, which has some resources, and the writes that lyon's services got."""

    async def main() -> tuple[Outcome, list[tuple[str, str]]]:
        async with Sites("paris", "lyon").running() as sites:
            sites["lyon"].things = dict(things)
            # The operation in the form in which it arrives from another site.
            came = PendingOperation.load(json.loads(json.dumps(operation.dump())))
            outcome = await Performer(View(sites, "lyon")).perform(came)
            assert {token for _, _, token in sites["lyon"].asked} <= {ADMIN}
            return outcome, sites["lyon"].writes()

    return asyncio.run(main())


def image(method: str, child: str = "", body: Any = None) -> Call:
    return call(method, IMAGE + child, body, service="image")


@pytest.mark.parametrize(
    "asked",
    [
        image("DELETE"),
        image("PATCH", body={"name": "n"}),
        image("POST", "/members", {"member": "elsewhere"}),
        image("DELETE", "/members/someone"),
        image("PUT", "/members/someone", {"status": "accepted"}),
        image("PUT", "/tags/t"),
    ],
)
def test_an_operation_of_a_stranger_does_not_change_anothers_image(asked: Call):
    for requester in (STRANGER, replace(STRANGER, project=""), None):
        outcome, writes = perform(wanted(asked, requester), **{IMAGE: {"owner": PROJECT}})
        assert (outcome.refused, writes) == (True, [])
    outcome, writes = perform(wanted(asked), **{IMAGE: {"owner": PROJECT}})
    assert (outcome.refused, len(writes)) == (False, 1)


def test_a_project_may_accept_an_image_that_another_one_shares_with_it():
    accept = image("PUT", "/members/elsewhere", {"status": "accepted"})
    outcome, writes = perform(wanted(accept, STRANGER), **{IMAGE: {"owner": PROJECT}})
    assert (outcome.refused, writes) == (False, [("PUT", f"{IMAGE}/members/elsewhere")])
    assert perform(wanted(image("DELETE", "/members/elsewhere"), STRANGER), **{IMAGE: {"owner": PROJECT}})[0].refused


@pytest.mark.parametrize(
    ("meant", "refused"),
    [
        ({}, False),
        ({"owner": PROJECT, "hash": "h"}, False),
        ({"owner": PROJECT}, False),
        ({"owner": PROJECT, "hash": "another"}, True),
        ({"owner": "another"}, True),
    ],
)
@pytest.mark.parametrize("requester", [OWNER, OPERATOR])
def test_another_object_under_the_id_is_left_alone_whoever_asks(meant: dict[str, str], refused: bool, requester: Requester):
    outcome, writes = perform(wanted(image("DELETE"), requester, identity=meant), **{IMAGE: {"owner": PROJECT, "os_hash_value": "h"}})
    assert (outcome.refused, bool(writes)) == (refused, not refused)


def test_a_missing_object_is_answered_with_404():
    assert perform(wanted(image("DELETE")))[0] == Outcome(404, "{}")


@pytest.mark.parametrize("path", ["/v2.1/os-quota-sets/project", "/v2.0/quotas/project"])
def test_settings_are_changed_for_administrators_alone(path: str):
    service = "network" if "v2.0" in path else "compute"
    asked = call("PUT", path, {"quota": {"server": 1}}, service=service)
    assert perform(wanted(asked))[0].refused
    assert not perform(wanted(asked, OPERATOR), **{path: {}})[0].refused


def test_flavors_are_the_administrators_and_key_pairs_their_users():
    flavor, pair = "/v2.1/flavors/f", "/v2.1/os-keypairs/k"
    access = call("POST", f"{flavor}/action", {"addTenantAccess": {"tenant": PROJECT}})
    assert perform(wanted(access), **{flavor: {"project_id": "admin"}})[0].refused
    assert perform(wanted(access, OPERATOR), **{flavor: {}})[1] == [("POST", f"{flavor}/action")]
    theirs = call("DELETE", pair, query="user_id=user")
    assert perform(wanted(theirs, STRANGER), **{pair: {}})[0].refused
    assert perform(wanted(theirs), **{pair: {}})[1] == [("DELETE", pair)]


@pytest.mark.parametrize(
    ("collection", "body"),
    [
        ("subnets", {"subnet": {"network_id": "n", "id": "s", "project_id": PROJECT}}),
        ("security-group-rules", {"security_group_rule": {"security_group_id": "n", "id": "r", "project_id": PROJECT}}),
    ],
)
def test_a_part_is_created_in_what_is_the_projects_own(collection: str, body: dict[str, Any]):
    parent = NETWORK if collection == "subnets" else "/v2.0/security-groups/n"
    asked = call("POST", f"/v2.0/{collection}", body, service="network")
    later = wanted(asked, about=f"/v2.0/{collection}/s")
    assert perform(later, **{parent: {}})[1] == [("POST", f"/v2.0/{collection}")]
    assert perform(later, **{parent: {"project_id": "victim"}})[0].refused
    assert perform(later)[0].status == 404
    assert perform(replace(later, requester=STRANGER), **{parent: {"project_id": "elsewhere"}})[0].refused, (
        "expected a refusal: another project owns the parent"
    )


@pytest.mark.parametrize(
    "operation",
    [
        wanted(call("POST", "/v2.1/servers", {"server": {"name": "x"}}), OPERATOR),
        wanted(call("POST", "/v2.0/ports", {"port": {"network_id": "n"}}, service="network"), OPERATOR),
        wanted(call("POST", "/v2.0/subnets", [], service="network"), OPERATOR),
        wanted(call("GET", IMAGE, service="image"), OPERATOR),
        wanted(call("POST", "/v3/users", {}, service="identity"), OPERATOR),
        wanted(call("DELETE", "/v2/images/../x", service="image"), OPERATOR),
        wanted(call("DELETE", "/v2/images/%2e%2e", service="image"), OPERATOR),
        # The path of one resource, and the name of another.
        wanted(call("DELETE", IMAGE, service="image"), about="/v2/images/mine"),
        wanted(call("POST", "/v2.1/servers/1/action", {"createImage": {"name": "i"}})),
        wanted(call("PUT", f"{NETWORK}/file", service="network"), OPERATOR, copies_data=True),
    ],
)
def test_inconsistent_operations_are_refused(operation: PendingOperation):
    outcome, writes = perform(operation, **{IMAGE: {"owner": "victim"}, "/v2.1/servers/1": {}, NETWORK: {}})
    assert (outcome.refused, writes) == (True, [])


def test_path_that_names_another_object_than_the_operation_says_is_judged_by_the_path():
    victim, mine = "/v2.1/servers/1", "/v2.1/servers/2"
    asked = call("POST", f"{victim}/action", {"reboot": {}})
    outcome, writes = perform(wanted(asked, about=mine), **{victim: {"project_id": "victim"}, mine: {}})
    assert (outcome.refused, writes) == (True, [])


def test_servers_of_another_project_with_the_tag_stay():
    tagged = {"metadata": {REPLICA_TAG: "t"}}
    things = {"/v2.1/servers/1": {"id": "1", **tagged}, "/v2.1/servers/2": {"id": "2", "tenant_id": "victim", **tagged}}
    later = wanted(call("DELETE", "/v2.1/servers", query=query_by_name("web")), tag="t", unsure=True)
    outcome, writes = perform(later, **things)
    assert (outcome.status, writes) == (204, [("DELETE", "/v2.1/servers/1")])


DATA = b"data" * 100_000


@pytest.mark.parametrize(
    ("owner", "requester", "holder", "refused", "copied"),
    [
        ("ours", Requester("u", "ours", ()), "ours", False, True),
        ("ours", Requester("u", "theirs", ()), "ours", True, False),
        ("theirs", Requester("u", "ours", ()), "ours", True, False),
        ("ours", Requester("u", "ours", ()), "theirs", True, False),
        ("ours", OPERATOR, "theirs", True, False),
        ("ours", OPERATOR, "ours", False, True),
    ],
)
def test_data_are_pulled_into_the_same_image_alone(
    tmp_path: Path, *, owner: str, requester: Requester, holder: str, refused: bool, copied: bool
):
    async def main() -> None:
        here, lyon = Site("here"), Site("lyon")
        image = lyon.add_image(DATA, owner=holder)
        here.images[image] = {"id": image, "status": "queued", "owner": owner}
        async with running(here, lyon) as views:
            performer = Performer(views[0], ImageTransfers(views[0], tmp_path))
            asked = call("PUT", f"/v2/images/{image}/file", service="image")
            outcome = await performer.perform(replace(wanted(asked, requester), copies_data=True))
        assert (outcome.refused, here.data.get(image) == DATA) == (refused, copied)

    asyncio.run(main())


def test_data_that_no_site_has_yet_are_waited_for(tmp_path: Path):
    async def main() -> None:
        here, lyon = Site("here"), Site("lyon")
        image = lyon.add_image(DATA)
        here.images[image] = {"id": image, "status": "queued", "owner": "ours"}
        lyon.images[image]["status"] = "queued"
        async with running(here, lyon) as views:
            performer = Performer(views[0], ImageTransfers(views[0], tmp_path))
            asked = call("PUT", f"/v2/images/{image}/file", service="image")
            outcome = await performer.perform(replace(wanted(asked, Requester("u", "ours", ())), copies_data=True))
            assert (outcome.status, outcome.waits, outcome.refused) == (503, True, False)

    asyncio.run(main())


@pytest.mark.parametrize("said", [b"", b"[]", b"{}", b"7", b'{"site": 1}'])
def test_malformed_operations_are_not_read(said: bytes):
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        PendingOperation.load(json.loads(said))


def test_other_sites_hand_operations_over_at_the_peer_port():
    async def main() -> None:
        lyon = Site("lyon")
        image = lyon.add_image(b"x", owner="victim")
        handler: list[Performer] = []

        async def answer(request: web.Request) -> web.StreamResponse:
            return await handler[0]._answer(request)

        lyon.application.router.add_post("/atoll/operations", answer)
        async with running(lyon) as (view,):
            handler.append(Performer(view))
            url = f"{view.urls['lyon']}/atoll/operations"
            async with view.session.post(url, data=b"{}") as refused:
                assert refused.status == 400
            later = wanted(call("DELETE", f"/v2/images/{image}", service="image"))
            async with view.session.post(url, json=later.dump()) as done:
                outcome = Outcome.load(await done.json())
            assert outcome.refused
            assert image in lyon.images

    asyncio.run(main())


@pytest.mark.parametrize(("limited", "done"), [((), True), (("metz",), True), (("lyon",), False)])
def test_administrators_of_a_site_with_limited_trust_are_none_here(limited: tuple[str, ...], *, done: bool):
    async def main() -> None:
        asked: list[Requester] = []

        class Noted(Performer):
            async def perform(self, operation: PendingOperation) -> Outcome:
                assert operation.requester is not None
                asked.append(operation.requester)
                return Outcome(204)

        here = Site("here")
        performer = Noted(None, limited=limited)
        here.application.router.add_post("/atoll/operations", performer._answer)
        both = Requester("admin", "theirs", ("admin", "member"))
        async with running(here) as (view,):
            later = wanted(image("DELETE"), both)
            headers = {"X-Test-From": "lyon"}
            async with view.session.post(f"{view.urls['here']}/atoll/operations", json=later.dump(), headers=headers) as reply:
                assert reply.status == 200
        assert [each.is_admin for each in asked] == [done]
        assert [(each.user, each.project, "member" in each.roles) for each in asked] == [("admin", "theirs", True)]

    asyncio.run(main())


def test_site_hands_over_nothing_of_projects_that_it_may_not_speak_for():
    """A site with `trust: local-admin` can't sign tokens of administrators, and must not delete their resources by operations."""

    async def main() -> None:
        here = Site("here")
        spoken: list[tuple[str, str, str]] = []

        def speaks_for(*asked: str) -> bool:
            spoken.append(asked)
            return asked[0] != "lyon"

        class Done(Performer):
            async def perform(self, _operation: PendingOperation) -> Outcome:
                return Outcome(204)

        performer = Done(None, speaks_for=speaks_for)
        here.application.router.add_post("/atoll/operations", performer._answer)
        async with running(here) as (view,):
            later = wanted(image("DELETE"), Requester("u", "theirs", ("member",)))
            outcomes = []
            for peer in ("lyon", "metz"):
                headers = {"X-Test-From": peer}
                async with view.session.post(f"{view.urls['here']}/atoll/operations", json=later.dump(), headers=headers) as reply:
                    outcomes.append(Outcome.load(await reply.json()))
        assert [(each.status, each.refused) for each in outcomes] == [(409, True), (204, False)]
        assert "not homed at lyon" in outcomes[0].message
        assert spoken == [("lyon", "theirs", "u"), ("metz", "theirs", "u")]

    asyncio.run(main())

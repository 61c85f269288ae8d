import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import NamedTuple

import pytest
from replica_sites import USER, Notes, Sites, call

from atoll.gateway.answers import REPLICA_TAG
from atoll.gateway.copies.change import ChangeContext
from atoll.gateway.copies.conflicts import Conflicts
from atoll.gateway.copies.draft import of_user
from atoll.gateway.copies.pending import Pending
from atoll.gateway.copies.replicas import KIND, ReplicatedResources
from atoll.gateway.request.call import Call, Reply
from atoll.gateway.request.headers import GIVEN_ID
from atoll.gateway.request.requester import Requester
from atoll.gateway.resolve.routes import COMPUTE, IMAGES, network_resource

SERVERS = "/v2.1/servers"
TWO = [["paris", "lyon"]]


class Cloud(NamedTuple):
    sites: Sites
    notes: Notes
    pending: Pending
    replicas: ReplicatedResources
    conflicts: Conflicts

    def waiting(self) -> list[tuple[str, str]]:
        """Return the operations that wait."""
        return [(each["site"], each["what"]) for each in self.pending.list()]

    async def create_server(self, choices: list[list[str]] | None = None, **fields: object) -> Reply:
        """Create a server, at paris and lyon unless `choices` names other sites."""
        asked = call("POST", SERVERS, {"server": {"name": "web", **fields}})
        return await self.replicas.creator.create(asked, COMPUTE["servers"], choices or TWO)

    async def ask(self, method: str, identifier: str, child: str = "", body: object = None) -> Reply:
        """Send a request about a server."""
        group = self.replicas.group(identifier)
        assert group is not None
        return await self.replicas.relay(call(method, f"{SERVERS}/{identifier}{child}", body), group, identifier)

    def servers(self) -> dict[str, list[str]]:
        """Return the ids of the servers at each site."""
        return {site: [server["id"] for server in self.sites[site].of(SERVERS)] for site in self.sites.everywhere()}


@asynccontextmanager
async def cloud(directory: Path, *names: str) -> AsyncIterator[Cloud]:
    """Run sites, nearest first, whose pending operations stay where they are."""
    async with Sites(*names or ("paris", "lyon", "nice")).running() as sites:
        notes, conflicts = Notes(), Conflicts()
        with closing(Pending(directory / "pending.db", sites, lambda: 0.0)) as pending:
            yield Cloud(sites, notes, pending, ReplicatedResources(sites, notes, pending, sites.make, ChangeContext(conflicts)), conflicts)


def test_servers_are_created_together_under_one_id(tmp_path):
    async def main() -> None:
        async with cloud(tmp_path) as at:
            reply = await at.create_server([["lyon", "nice"]])
            made = reply.json()["server"]
            assert (reply.status, reply.site) == (201, "lyon,nice")
            ids = at.servers()
            assert (ids["paris"], ids["lyon"]) == ([], [made["id"]])
            group = at.replicas.group(made["id"])
            assert group is not None
            assert group.members == {"lyon": made["id"], "nice": ids["nice"][0]} != {"lyon": made["id"], "nice": made["id"]}
            assert at.replicas.group(ids["nice"][0]) == group
            record = at.notes.record(KIND, made["id"])
            assert record is not None
            assert record.fields == {"present": True, "service": "compute", "path": SERVERS, "members": dict(group.members)}

    asyncio.run(main())


def test_another_gateway_learns_and_forgets_them(tmp_path):
    async def main() -> None:
        async with cloud(tmp_path) as at:
            early = ReplicatedResources(at.sites, at.notes, at.pending, at.sites.make)
            key = (await at.create_server()).json()["server"]["id"]
            late = ReplicatedResources(at.sites, at.notes, at.pending, at.sites.make)
            assert early.group(key) == late.group(key) == at.replicas.group(key) is not None
            await at.ask("DELETE", key)
            assert early.group(key) is None

    asyncio.run(main())


def test_a_creation_at_several_sites_is_undone_if_one_refuses(tmp_path):
    async def main() -> None:
        async with cloud(tmp_path) as at:
            at.sites["lyon"].refuse["POST", SERVERS] = 403
            reply = await at.create_server([["paris", "lyon", "nice"]])
            assert (reply.status, reply.site) == (403, "lyon")
            assert at.servers() == {"paris": [], "lyon": [], "nice": []}
            assert ("DELETE", USER) in [(method, token) for method, _, token in at.sites["paris"].asked]
            assert (at.waiting(), list(at.notes.records(KIND))) == ([], [])

    asyncio.run(main())


def test_nothing_is_begun_if_a_site_is_known_to_be_cut_off(tmp_path):
    async def main() -> None:
        async with cloud(tmp_path) as at:
            at.sites.cut.add("lyon")
            reply = await at.create_server()
            assert (reply.status, reply.headers["X-Atoll-Missing"]) == (503, "lyon")
            assert b"site lyon can't be reached from paris" in reply.body
            assert at.sites["paris"].asked == []

    asyncio.run(main())


def test_a_server_whose_creation_was_not_answered_is_deleted_later(tmp_path):
    async def main() -> None:
        async with cloud(tmp_path) as at:
            at.sites.mute.add("lyon")
            assert (await at.create_server()).status == 503
            tag = at.sites["lyon"].of(SERVERS)[0]["metadata"][REPLICA_TAG]
            assert at.servers()["paris"] == []
            assert at.waiting() == [("lyon", f"DELETE compute{SERVERS} tagged {tag}")]

    asyncio.run(main())


def test_an_undo_that_fails_is_repeated_later(tmp_path):
    async def main() -> None:
        async with cloud(tmp_path) as at:
            at.sites["nice"].refuse["POST", SERVERS] = 403
            at.sites["lyon"].refuse["DELETE", SERVERS] = 500
            await at.create_server([["paris", "lyon", "nice"]])
            tag = at.sites["lyon"].of(SERVERS)[0]["metadata"][REPLICA_TAG]
            assert at.waiting() == [("lyon", f"DELETE compute{SERVERS} tagged {tag}")]
            assert at.pending.list()[0]["error"] == "the creation could not be undone: HTTP 500: refused by lyon"

    asyncio.run(main())


def test_a_creation_that_is_interrupted_is_undone_later_at_all_sites(tmp_path):
    async def main() -> None:
        async with cloud(tmp_path) as at:
            at.sites["lyon"].hang = asyncio.Event()
            task = asyncio.create_task(at.create_server())
            while not at.sites["lyon"].asked:
                await asyncio.sleep(0.001)
            assert at.waiting() == [], "nothing may wait while the creation is under way"
            task.cancel()
            await asyncio.wait([task])
            at.sites["lyon"].hang.set()
            tag = at.sites["paris"].of(SERVERS)[0]["metadata"][REPLICA_TAG]
            assert at.waiting() == [(site, f"DELETE compute{SERVERS} tagged {tag}") for site in ("paris", "lyon")]

    asyncio.run(main())


def test_the_first_alternative_that_works_is_taken(tmp_path):
    async def main() -> None:
        async with cloud(tmp_path) as at:
            at.sites.cut.add("lyon")
            at.sites["paris"].refuse["POST", SERVERS] = 403
            reply = await at.create_server([["lyon"], ["paris"], ["nice"]])
            assert (reply.status, reply.site) == (201, "nice")
            assert list(at.notes.records(KIND)) == []
            at.sites["nice"].refuse["POST", SERVERS] = 409
            reply = await at.create_server([["lyon"], ["paris"], ["nice"]])
            assert (reply.status, reply.site) == (403, "paris")

    asyncio.run(main())


def test_a_wrong_request_is_not_tried_at_each_alternative(tmp_path):
    async def main() -> None:
        async with cloud(tmp_path) as at:
            at.sites["paris"].refuse["POST", SERVERS] = 400
            assert (await at.create_server([["paris"], ["lyon"]])).status == 400
            assert at.sites["lyon"].asked == []

    asyncio.run(main())


def test_an_untraceable_resource_is_not_created_at_a_second_site(tmp_path):
    """A floating IP has no id of the gateway's and no tag: if the first site does not answer, no other is asked."""

    async def main() -> None:
        async with cloud(tmp_path) as at:
            at.sites.mute.add("paris")
            asked = call("POST", "/v2.0/floatingips", {"floatingip": {}}, service="network")
            reply = await at.replicas.creator.create(asked, network_resource("floatingips"), [["paris"], ["lyon"]])
            assert reply.status == 503
            assert at.sites["lyon"].asked == []

    asyncio.run(main())


def test_reading_asks_the_nearest_that_has_it_and_speaks_of_the_id_asked_for(tmp_path):
    async def main() -> None:
        async with cloud(tmp_path) as at:
            key = (await at.create_server([["lyon", "paris"]])).json()["server"]["id"]
            there = at.servers()
            assert there["lyon"] == [key]
            read = (await at.ask("GET", key)).json()
            assert (read["site"], read["id"]) == ("paris", key)
            read = (await at.ask("GET", there["paris"][0])).json()
            assert (read["site"], read["id"]) == ("paris", there["paris"][0])
            at.sites["paris"].things.clear()
            assert (await at.ask("GET", key)).json()["site"] == "lyon"
            at.sites.cut.add("lyon")
            assert (await at.ask("GET", key)).status == 503
            at.sites.cut.clear()
            at.sites["lyon"].things.clear()
            assert (await at.ask("GET", key)).status == 404

    asyncio.run(main())


@pytest.mark.parametrize(("child", "body"), [("/remote-consoles", {"remote_console": {}}), ("/action", {"os-getSerialConsole": {}})])
def test_a_console_is_that_of_the_nearest_and_nobody_has_to_make_one_later(tmp_path, child, body):
    async def main() -> None:
        async with cloud(tmp_path) as at:
            key = (await at.create_server([["lyon", "paris"]])).json()["server"]["id"]
            there = at.servers()
            asked = len(at.sites["lyon"].asked)
            at.sites.cut.add("lyon")
            assert (await at.ask("POST", key, child, body)).site == "paris"
            assert at.sites["paris"].writes()[-1] == ("POST", f"{SERVERS}/{there['paris'][0]}{child}")
            assert (len(at.sites["lyon"].asked), at.waiting()) == (asked, [])

    asyncio.run(main())


@pytest.mark.parametrize("which", ["lyon", "paris"])
def test_changes_and_actions_reach_all_members_by_any_of_their_ids(tmp_path, which):
    async def main() -> None:
        async with cloud(tmp_path) as at:
            await at.create_server()
            ids = {site: found[0] for site, found in at.servers().items() if found}
            at.sites.cut.add("lyon")
            reply = await at.ask("PUT", ids[which], body={"name": "new"})
            assert (reply.status, reply.json()["id"], reply.site) == (200, ids[which], "paris")
            assert at.waiting() == [("lyon", f"PUT compute{SERVERS}/{ids['lyon']}")]
            at.sites.cut.clear()
            assert (await at.ask("POST", ids[which], "/action", {"reboot": {}})).status == 202
            assert at.sites["paris"].writes()[-1] == ("POST", f"{SERVERS}/{ids['paris']}/action")
            assert at.sites["lyon"].writes()[-1][0] == "POST", "the pending creation must be sent before the change"
            assert at.waiting()[1] == ("lyon", f"POST compute{SERVERS}/{ids['lyon']}/action")
            await at.ask("DELETE", ids[which])
            assert at.waiting() == [("lyon", f"DELETE compute{SERVERS}/{ids['lyon']}")]
            assert at.replicas.group(ids["paris"]) is at.replicas.group(ids["lyon"]) is None

    asyncio.run(main())


def test_a_member_that_left_the_cloud_is_not_asked(tmp_path):
    async def main() -> None:
        async with cloud(tmp_path) as at:
            key = (await at.create_server()).json()["server"]["id"]
            at.sites.cut.add("lyon")
            at.sites.everywhere = lambda: ["paris", "nice"]
            assert (await at.ask("DELETE", key)).status == 204
            assert at.waiting() == []

    asyncio.run(main())


# --- Everywhere

RULES = "/v2.0/security-group-rules"
FLAVOR = "/v2.1/flavors/f"


def test_everywhere_is_done_by_those_who_have_it_and_later_by_the_others(tmp_path):
    async def main() -> None:
        async with cloud(tmp_path, "paris", "lyon", "nice", "lille") as at:
            for site in ("lyon", "nice", "lille"):
                at.sites[site].things[FLAVOR] = {"id": "f"}
            at.sites.cut.add("nice")
            at.sites["lille"].refuse["PUT", "."] = 500
            reply = await at.replicas.everywhere(call("PUT", FLAVOR, {"description": "d"}), at.sites.everywhere())
            assert (reply.status, reply.site, reply.json()["site"]) == (200, "lyon", "lyon")
            assert at.waiting() == [("nice", f"PUT compute{FLAVOR}"), ("lille", f"PUT compute{FLAVOR}")]

    asyncio.run(main())


def test_other_sites_follow_a_change_even_if_the_gateway_dies(tmp_path):
    async def main() -> None:
        async with cloud(tmp_path) as at:
            for site in ("paris", "lyon"):
                at.sites[site].things[FLAVOR] = {"id": "f"}
            at.sites["lyon"].hang = asyncio.Event()
            task = asyncio.create_task(at.replicas.everywhere(call("DELETE", FLAVOR), at.sites.everywhere()))
            while not (at.sites["lyon"].writes() and at.sites["paris"].writes()):
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.05)
            with closing(Pending(tmp_path / "pending.db", at.sites, lambda: 0.0)) as successor:
                assert ("lyon", f"DELETE compute{FLAVOR}") in [(each["site"], each["what"]) for each in successor.list()]
                at.sites["lyon"].hang.set()
                assert (await task).site == "paris,lyon"
                assert at.waiting() == successor.list() == []

    asyncio.run(main())


def test_a_change_that_no_site_accepted_does_not_wait(tmp_path):
    async def main() -> None:
        async with cloud(tmp_path) as at:
            at.sites.cut.add("nice")
            asked = call("DELETE", FLAVOR)
            reply = await at.replicas.everywhere(asked, at.sites.everywhere())
            assert (reply.status, reply.headers["X-Atoll-Missing"]) == (503, "nice")
            at.sites["lyon"].things[FLAVOR] = {"id": "f"}
            at.sites["lyon"].refuse["DELETE", "."] = 403
            assert (await at.replicas.everywhere(asked, at.sites.everywhere())).status == 403
            at.sites["lyon"].refuse.clear()
            at.sites["lyon"].things.clear()
            at.sites.cut.clear()
            assert (await at.replicas.everywhere(asked, at.sites.everywhere())).status == 404
            assert at.waiting() == []

    asyncio.run(main())


def test_a_refusal_by_one_of_several_sites_is_reported_and_not_overridden(tmp_path):
    async def main() -> None:
        async with cloud(tmp_path) as at:
            for site in ("paris", "lyon"):
                at.sites[site].things[FLAVOR] = {"id": "f"}
            at.sites["lyon"].refuse["DELETE", "."] = 403
            reply = await at.replicas.everywhere(call("DELETE", FLAVOR), ["paris", "lyon"])
            assert (reply.status, reply.site) == (403, "lyon")
            assert at.waiting() == []
            (told,) = at.conflicts.list()
            assert "carried out at paris, but lyon refuses" in told["why"]

    asyncio.run(main())


def test_a_key_pair_that_waits_says_whose_it_is():
    user = Requester("user", "project", ("member",))
    said = of_user(call("DELETE", "/v2.1/os-keypairs/mine", **{"X-OpenStack-Nova-API-Version": "2.1"}), user)
    assert said.query == "user_id=user"
    assert said.headers["OpenStack-API-Version"] == "compute 2.10"
    assert "X-OpenStack-Nova-API-Version" not in said.headers
    assert of_user(call("DELETE", "/v2.1/os-keypairs/mine"), None).query == "user_id=", (
        "without a requester, the request must mean no key pair, not one of the gateway"
    )
    assert of_user(call("DELETE", SERVERS + "/1"), user).query == ""


def test_a_pending_operation_records_its_requester_and_its_object(tmp_path):
    async def main() -> None:
        async with cloud(tmp_path) as at:
            image = "/v2/images/i"
            at.sites["paris"].things[image] = {"id": "i", "owner": "project", "os_hash_value": "h"}
            at.sites.cut.add("lyon")
            for method, child, body in (("PATCH", "", {"name": "n"}), ("POST", "/members", {"member": "m"}), ("DELETE", "", None)):
                asked = call(method, image + child, body, service="image", **{"X-Atoll-Identity": '{"owner": "forged"}'})
                reply = await at.replicas.everywhere(asked, ["paris", "lyon"])
                assert reply.ok
                (waits,) = [each for each in at.pending._store.all() if each.method == method]
                assert waits.requester == Requester("user", "project", ("member",))
                assert waits.identity == {"owner": "project", "hash": "h"}

    asyncio.run(main())


def test_a_site_that_is_alone_is_asked_once_for_each_request(tmp_path):
    async def main() -> None:
        async with cloud(tmp_path, "paris") as at:
            at.sites["paris"].things[FLAVOR] = {"id": "f"}
            assert (await at.replicas.everywhere(call("DELETE", FLAVOR), ["paris"])).status == 204
            assert at.sites["paris"].asked == [("DELETE", FLAVOR, USER)]

    asyncio.run(main())


# --- Types that have one id everywhere


def test_an_image_has_one_id_and_its_data_follow(tmp_path):
    async def pieces() -> AsyncIterator[bytes]:
        yield b"da"
        yield b"ta"

    async def main() -> None:
        async with cloud(tmp_path) as at:
            asked = call("POST", "/v2/images", {"name": "i"}, service="image")
            image = (await at.replicas.creator.create(asked, IMAGES, [["lyon", "nice"]])).json()["id"]
            assert [each["id"] for site in ("lyon", "nice") for each in at.sites[site].of("images")] == [image, image]
            group = at.replicas.group(image)
            assert group is not None
            path = f"/v2/images/{image}"
            reply = await at.replicas.relay(call("PUT", f"{path}/file", pieces(), service="image"), group, image)
            assert (reply.status, at.sites["lyon"].data) == (204, {path: b"data"})
            assert at.waiting() == [("nice", f"PUT image{path}/file (data)")]
            at.sites["paris"].things[path] = {"id": image, "status": "active"}  # a copy that was pulled
            await at.replicas.relay(call("DELETE", path, service="image"), group, image)
            assert at.sites["paris"].things == at.sites["lyon"].things == {}

    asyncio.run(main())


def test_an_image_whose_creation_was_not_answered_is_deleted_by_its_id(tmp_path):
    async def main() -> None:
        async with cloud(tmp_path) as at:
            at.sites.mute.add("lyon")
            await at.replicas.creator.create(call("POST", "/v2/images", {"name": "i"}, service="image"), IMAGES, TWO)
            image = at.sites["lyon"].of("images")[0]["id"]
            assert at.waiting() == [("lyon", f"DELETE image/v2/images/{image}")]

    asyncio.run(main())


def test_an_id_that_the_client_chose_is_not_deleted_where_it_might_be_another_s(tmp_path):
    async def main() -> None:
        async with cloud(tmp_path) as at:
            at.sites.mute.add("lyon")
            await at.replicas.creator.create(call("POST", "/v2/images", {"id": "given"}, service="image"), IMAGES, TWO)
            assert at.waiting() == []

    asyncio.run(main())


def test_a_key_pair_has_one_public_key(tmp_path):
    async def main() -> None:
        async with cloud(tmp_path) as at:
            asked = call("POST", "/v2.1/os-keypairs", {"keypair": {"name": "mine"}})
            reply = await at.replicas.creator.create(asked, COMPUTE["os-keypairs"], TWO)
            assert reply.json()["keypair"]["public_key"] == "made at paris"
            assert at.sites["lyon"].of("os-keypairs")[0]["public_key"] == "made at paris"
            assert list(at.notes.records(KIND)) == [], "no record may tie key pairs: two users may have key pairs of one name"

    asyncio.run(main())


def test_values_chosen_by_the_first_neutron_are_used_at_all_sites(tmp_path):
    async def main() -> None:
        async with cloud(tmp_path) as at:
            asked = call("POST", "/v2.0/subnets", {"subnet": {"network_id": "n", "subnetpool_id": "p", "prefixlen": 24}}, service="network")
            made = (await at.replicas.creator.create(asked, network_resource("subnets"), TWO)).json()["subnet"]
            there = at.sites["lyon"].of("subnets")[0]
            assert {name: there[name] for name in ("id", "project_id", "cidr")} == {
                name: made[name] for name in ("id", "project_id", "cidr")
            }
            assert "subnetpool_id" not in there
            assert [at.sites[site].asked[0][2] for site in ("paris", "lyon")] == [USER, USER], (
                "every site must create the resource with the user's rights"
            )
            assert [GIVEN_ID in at.sites[site].headers[0] for site in ("paris", "lyon")] == [False, True]

    asyncio.run(main())


def test_a_part_reaches_a_cut_off_copy_of_its_whole_later(tmp_path):
    """A rule of a security group, made while a site can't be reached that may have the group."""

    async def main() -> None:
        async with cloud(tmp_path) as at:
            at.sites.cut.add("nice")
            asked = call("POST", RULES, {"security_group_rule": {"security_group_id": "g"}}, service="network")
            reply = await at.replicas.creator.create(asked, network_resource("security-group-rules"), TWO, ["nice"])
            rule = reply.json()["security_group_rule"]["id"]
            assert reply.site == "paris,lyon"
            assert at.waiting() == [("nice", f"POST network{RULES}")]
            waits = at.pending._store.all()[0]
            assert json.loads(waits.body or b"")["security_group_rule"] == {"security_group_id": "g", "id": rule, "project_id": "project"}
            # The rule is never created if it is deleted before the site is back.
            await at.replicas.everywhere(call("DELETE", f"{RULES}/{rule}", service="network"), at.sites.everywhere())
            assert at.waiting() == [("nice", f"DELETE network{RULES}/{rule}")]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("path", "resource", "body", "why"),
    [
        (SERVERS, COMPUTE["servers"], {"server": {"name": "x", "max_count": 2}}, "several servers in one request"),
        (SERVERS, COMPUTE["servers"], {"server": {"metadata": ["a"]}}, "expected metadata to be an object"),
        (SERVERS, COMPUTE["servers"], {"flavor": {}}, "expected one server"),
        ("/v2.0/networks", network_resource("networks"), {"networks": ["x"]}, "expected one network, or several networks"),
        ("/v2.0/floatingips", network_resource("floatingips"), {"floatingip": {}}, "floatingips can't be the same at several sites"),
        (SERVERS, COMPUTE["servers"], b"{", "JSON"),
    ],
)
def test_some_types_cant_be_replicated(tmp_path, path, resource, body, why):
    async def main() -> None:
        async with cloud(tmp_path) as at:
            asked: Call = call("POST", path, body, service=resource.service)
            reply = await at.replicas.creator.create(asked, resource, TWO)
            assert reply.status == 400
            if why != "JSON":
                assert why in reply.body.decode()
            assert at.sites["paris"].asked == []

    asyncio.run(main())


# --- Several things in one request


def rules(*groups: str) -> Call:
    """Return a request for rules, one of each group."""
    items = [{"security_group_id": group, "description": str(number)} for number, group in enumerate(groups)]
    return call("POST", RULES, {"security_group_rules": items}, service="network")


@pytest.mark.parametrize("count", [1, 3])
def test_a_list_of_parts_is_made_at_all_sites_under_the_same_ids(tmp_path, count):
    async def main() -> None:
        async with cloud(tmp_path) as at:
            at.sites.cut.add("nice")
            resource = network_resource("security-group-rules")
            reply = await at.replicas.creator.create(rules(*["g"] * count), resource, TWO, ["nice"])
            made = reply.json()["security_group_rules"]
            assert (reply.site, len(made)) == ("paris,lyon", count)
            for site in ("paris", "lyon"):
                there = {rule["id"]: rule["description"] for rule in at.sites[site].of(RULES)}
                assert there == {rule["id"]: rule["description"] for rule in made}
            assert at.waiting() == [("nice", f"POST network{RULES}")] * count
            waits = [json.loads(each.body or b"")["security_group_rule"]["id"] for each in at.pending._store.all()]
            assert waits == [rule["id"] for rule in made], "expected one pending operation for each resource"

    asyncio.run(main())


def test_a_list_of_parts_is_made_whole_or_not_at_all(tmp_path):
    async def main() -> None:
        async with cloud(tmp_path) as at:
            at.sites["lyon"].refuse["POST", RULES] = 409
            reply = await at.replicas.creator.create(rules("g", "g"), network_resource("security-group-rules"), TWO)
            assert reply.status == 409
            assert at.sites["paris"].of(RULES) == at.sites["lyon"].of(RULES) == []
            assert at.waiting() == []

    asyncio.run(main())


def test_a_site_gets_those_parts_whose_whole_it_has(tmp_path):
    async def main() -> None:
        async with cloud(tmp_path) as at:
            parts = {"paris": [0, 1, 2], "lyon": [0, 2]}
            reply = await at.replicas.creator.create(rules("g", "h", "g"), network_resource("security-group-rules"), TWO, (), parts)
            made = reply.json()["security_group_rules"]
            assert [rule["description"] for rule in made] == ["0", "1", "2"]
            assert [rule["id"] for rule in at.sites["lyon"].of(RULES)] == [made[0]["id"], made[2]["id"]]

    asyncio.run(main())


def test_a_list_whose_creation_was_not_answered_is_deleted_by_its_ids(tmp_path):
    async def main() -> None:
        async with cloud(tmp_path) as at:
            at.sites.mute.add("lyon")
            await at.replicas.creator.create(rules("g", "g"), network_resource("security-group-rules"), TWO)
            left = [rule["id"] for rule in at.sites["lyon"].of(RULES)]
            assert at.sites["paris"].of(RULES) == []
            assert at.waiting() == [("lyon", f"DELETE network{RULES}/{rule}") for rule in left]

    asyncio.run(main())

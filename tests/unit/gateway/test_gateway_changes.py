"""Changes of copies: all sites or none, in use or not, on a condition or without."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oslo_utils import strutils
from replica_sites import ADMIN, REQUESTERS, USER, Notes, Sites, call

from atoll.gateway.copies import conditions
from atoll.gateway.copies.change import ChangeContext
from atoll.gateway.copies.conflicts import Conflicts
from atoll.gateway.copies.in_use import AUTO_DELETED, FALSE_STRINGS, FLOATING, ROUTER_INTERFACES, UNSHARE, InUseRefusal, question
from atoll.gateway.copies.pending import Pending
from atoll.gateway.copies.perform import Performer
from atoll.gateway.copies.replicas import KIND, ReplicatedResources
from atoll.gateway.request.call import Reply, Unreachable
from atoll.mesh.record import Change

NETWORK, SUBNET, GROUP = "/v2.0/networks/n", "/v2.0/subnets/s", "/v2.0/security-groups/g"
STRANGER = "stranger's token"
REQUESTERS[STRANGER] = {"user": {"id": "eve"}, "project": {"id": "elsewhere"}, "roles": [{"name": "member"}]}


class Cloud(NamedTuple):
    sites: Sites
    pending: Pending
    replicas: ReplicatedResources
    conflicts: Conflicts

    async def ask(self, method: str, path: str, body: Any = None, service: str = "network", **headers: str) -> Reply:
        """Send a request to paris's gateway."""
        return await self.replicas.everywhere(call(method, path, body, service=service, **headers), self.sites.everywhere())

    def put(self, path: str, **things: dict[str, Any]) -> None:
        """Put copies at sites."""
        for site, thing in things.items():
            self.sites[site].things[path] = {"id": path.rpartition("/")[2], "project_id": "project", **thing}

    def holders(self, path: str) -> list[str]:
        """Return the sites that have a resource."""
        return [name for name, service in self.sites.services.items() if path in service.things]

    def values(self, path: str, field: str) -> dict[str, Any]:
        """Return a field of each copy."""
        return {name: service.things[path][field] for name, service in self.sites.services.items() if path in service.things}

    async def catch_up(self) -> None:
        """Have the waiting operations carried out."""
        for site, resource in self.pending._store.resources():
            if site not in self.sites.cut:
                await self.pending._work_off(site, resource)


@asynccontextmanager
async def cloud(directory: Path) -> AsyncIterator[Cloud]:
    async with Sites("paris", "lyon", "nice").running() as sites:
        conflicts = Conflicts()
        performer = Performer(sites)
        with closing(Pending(directory / "pending.db", sites, lambda: 0.0, performer, conflicts)) as pending:
            yield Cloud(sites, pending, ReplicatedResources(sites, Notes(), pending, sites.make, ChangeContext(conflicts)), conflicts)


def run(directory: Path, test: Callable[[Cloud], Awaitable[None]]) -> None:
    async def main() -> None:
        async with cloud(directory) as at:
            await test(at)

    asyncio.run(main())


@pytest.mark.parametrize("query", ["user_id=bob", "user%5Fid=bob", "x=&user%5fid=bob"])
def test_another_users_key_pair_is_deleted_at_all_sites_however_its_user_is_named(tmp_path: Path, query: str) -> None:
    async def test(at: Cloud) -> None:
        path = "/v2.1/os-keypairs/k"
        at.put(path, paris={"of": "bob"}, lyon={"of": "bob"})
        request = call("DELETE", path, query=query)
        assert (await at.replicas.everywhere(request, at.sites.everywhere())).status == 204
        assert at.holders(path) == []

    run(tmp_path, test)


# --- In use


@pytest.mark.parametrize(
    ("path", "port", "error"),
    [
        (NETWORK, {"network_id": ["n"]}, "NetworkInUse"),
        (SUBNET, {"fixed_ips": [{"subnet_id": "s"}]}, "SubnetInUse"),
        (GROUP, {"security_groups": ["g"]}, "SecurityGroupInUse"),
    ],
)
def test_a_resource_in_use_at_one_site_is_deleted_at_none(tmp_path: Path, path: str, port: dict[str, Any], error: str) -> None:
    async def test(at: Cloud) -> None:
        at.put(path, paris={}, lyon={})
        at.put("/v2.0/ports/p", lyon={"device_owner": "compute:lyon", "project_id": "another", **port})
        reply = await at.ask("DELETE", path)
        assert (reply.status, reply.json()["NeutronError"]["type"]) == (409, error)
        assert "at site lyon" in reply.json()["NeutronError"]["message"]
        assert (await at.ask("DELETE", f"{path}/")).status == 409, (
            "services accept a path with a slash at its end, so the gateway must check it too"
        )
        assert at.holders(path) == ["paris", "lyon"]
        assert at.pending.list() == at.conflicts.list() == []
        at.sites["lyon"].things.pop("/v2.0/ports/p")
        assert (await at.ask("DELETE", path)).status == 204
        assert at.holders(path) == []

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("shared", "ends"),
    [
        *((value, True) for value in (False, 0, "0", "false", "False", " no ", "OFF", "f", "n")),
        *((value, False) for value in (True, 1, "true", "yes", None, "", "maybe", [], {})),
    ],
)
def test_every_spelling_of_false_that_neutron_accepts_ends_sharing(shared: Any, ends: bool) -> None:
    assert question(call("PUT", NETWORK, {"network": {"shared": shared}}, service="network")) == (UNSHARE if ends else "PUT")


def test_a_service_may_take_its_time_for_the_only_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(cloud: Cloud) -> None:
        async def late(site: str, _call: Any, timeout_s: float = 30.0) -> Reply:
            raise Unreachable(site, f"no answer in {timeout_s:.1f} s")

        cloud.put(NETWORK, paris={})
        monkeypatch.setattr(cloud.sites, "send", late)
        assert (await cloud.replicas.everywhere(call("DELETE", NETWORK), ["paris"])).status == 204
        assert cloud.holders(NETWORK) == []

    run(tmp_path, test)


def test_neutron_takes_for_false_what_the_gateway_does() -> None:
    assert FALSE_STRINGS == strutils.FALSE_STRINGS


@pytest.mark.parametrize("owner", sorted(AUTO_DELETED))
def test_ports_that_neutron_deletes_by_itself_keep_no_network(tmp_path: Path, owner: str) -> None:
    async def test(at: Cloud) -> None:
        at.put(NETWORK, paris={}, lyon={})
        at.put("/v2.0/ports/p", lyon={"device_owner": owner, "network_id": ["n"]})
        assert (await at.ask("DELETE", NETWORK)).status == 204

    run(tmp_path, test)


@pytest.mark.parametrize(("port", "status"), [(None, 204), ("p", 409)])
def test_only_floating_ips_that_serve_a_port_keep_their_network(tmp_path: Path, port: str | None, status: int) -> None:
    async def test(at: Cloud) -> None:
        at.put(NETWORK, paris={}, lyon={})
        at.put("/v2.0/ports/f", lyon={"device_owner": FLOATING, "network_id": ["n"]})
        at.put("/v2.0/floatingips/f", lyon={"port_id": port, "floating_network_id": ["n"]})
        assert (await at.ask("DELETE", NETWORK)).status == status

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("subnet", "owner", "status"),
    [
        ({"ipv6_address_mode": "slaac"}, "compute:nova", 204),
        ({"ipv6_ra_mode": "dhcpv6-stateless"}, "compute:nova", 204),
        ({"ipv6_address_mode": "slaac"}, "network:router_interface", 409),
        ({"ipv6_address_mode": "dhcpv6-stateful"}, "compute:nova", 409),
    ],
)
def test_addresses_that_follow_from_the_port_keep_no_subnet(tmp_path: Path, subnet: dict[str, Any], owner: str, status: int) -> None:
    async def test(at: Cloud) -> None:
        at.put("/v2.0/subnets/s", paris=subnet, lyon=subnet)
        at.put("/v2.0/ports/p", lyon={"device_owner": owner, "fixed_ips": [{"subnet_id": "s"}]})
        assert (await at.ask("DELETE", "/v2.0/subnets/s")).status == status

    run(tmp_path, test)


@pytest.mark.filterwarnings("ignore")
def test_owners_of_ports_that_neutron_deletes_are_its_own() -> None:
    from neutron.common import _constants
    from neutron_lib import constants

    assert set(_constants.AUTO_DELETE_PORT_OWNERS) == AUTO_DELETED
    assert set(constants.ROUTER_INTERFACE_OWNERS) == ROUTER_INTERFACES
    assert constants.DEVICE_OWNER_FLOATINGIP == FLOATING


def test_a_user_who_may_not_delete_a_resource_does_not_learn_of_its_use(tmp_path: Path) -> None:
    async def test(at: Cloud) -> None:
        at.put(NETWORK, paris={"shared": True}, lyon={"shared": True})
        at.put("/v2.0/ports/p", lyon={"device_owner": "compute:lyon", "network_id": ["n"]})
        at.sites["paris"].refuse["DELETE", "."] = 403
        reply = await at.ask("DELETE", NETWORK, **{"X-Auth-Token": STRANGER})
        assert (reply.status, "in use" in reply.body.decode()) == (403, False)
        assert at.holders(NETWORK) == ["paris", "lyon"]

    run(tmp_path, test)


def test_a_client_with_the_gateways_header_learns_nothing_hidden(tmp_path: Path) -> None:
    """Only gateways send the header; a client that sends it reads with its own rights."""

    async def test(at: Cloud) -> None:
        at.put(NETWORK, lyon={"project_id": "another"})
        at.put("/v2.0/ports/p", lyon={"device_owner": "compute:lyon", "network_id": ["n"]})
        reply = await at.sites.send("lyon", call("GET", NETWORK, service="network", **{"X-Atoll-Accepts": "DELETE"}))
        assert (reply.status, "X-Atoll-Refusal" in reply.headers) == (404, False)

    run(tmp_path, test)


def test_a_copy_that_is_used_meanwhile_stays_and_is_reported(tmp_path: Path) -> None:
    async def test(at: Cloud) -> None:
        at.put(NETWORK, paris={}, lyon={})
        at.sites["lyon"].refuse["DELETE", "."] = 409
        reply = await at.ask("DELETE", NETWORK)
        assert (reply.status, reply.site) == (409, "lyon")
        assert at.holders(NETWORK) == ["lyon"]
        assert at.pending.list() == [], "a refused change must not be retried for ever"
        (told,) = at.conflicts.list()
        assert (told["id"], told["sites"]) == ("n", ["lyon", "paris"])

    run(tmp_path, test)


def test_a_deletion_that_a_site_refuses_when_it_is_back_is_given_up_and_told(tmp_path: Path) -> None:
    async def test(at: Cloud) -> None:
        at.put(NETWORK, paris={}, lyon={})
        at.sites.cut.add("lyon")
        assert (await at.ask("DELETE", NETWORK)).status == 204
        assert [each["site"] for each in at.pending.list()] == ["lyon"]
        at.sites.cut.clear()
        at.sites["lyon"].refuse["DELETE", "."] = 409
        await at.catch_up()
        assert at.pending.list() == []
        (told,) = at.conflicts.list()
        assert (told["id"], "409" in told["why"]) == ("n", True)

    run(tmp_path, test)


@pytest.mark.parametrize("path", [NETWORK, GROUP])
def test_site_that_may_not_speak_for_a_project_keeps_nothing_of_it(tmp_path: Path, path: str) -> None:
    """A broken-in member claims that a resource is in use. It decides about its own copy alone, and the operator is told."""

    async def test(at: Cloud) -> None:
        at.replicas.changes._may_block = lambda site, project: (site, project) != ("paris", "project")
        at.put(path, paris={"project_id": "another"}, lyon={}, nice={})
        at.put("/v2.0/ports/p", paris={"device_owner": "compute:paris", "network_id": ["n"], "security_groups": ["g"]})
        at.sites["paris"].refuse["DELETE", "."] = 409
        reply = await at.ask("DELETE", path, **{"X-Auth-Token": ADMIN})
        assert (reply.status, reply.site) == (204, "lyon,nice")
        assert at.holders(path) == ["paris"]
        assert [each["sites"] for each in at.conflicts.list()] == [["lyon", "nice", "paris"]]
        assert (await at.ask("DELETE", path, **{"X-Auth-Token": ADMIN})).status == 409, "a site may keep its own copy"

    run(tmp_path, test)


def test_any_site_refuses_to_end_the_sharing_of_a_network_in_use(tmp_path: Path) -> None:
    """The network's own site knows its users, and need not be the site that the client asks."""

    async def test(at: Cloud) -> None:
        at.put(NETWORK, paris={"shared": True}, lyon={"shared": True})
        at.sites.users["lyon"] = ["nice"]
        asked = {"network": {"shared": False}}
        reply = await at.ask("PUT", NETWORK, asked, **{"X-Auth-Token": ADMIN})
        assert (reply.status, reply.json()["NeutronError"]["type"]) == (409, "InvalidSharedSetting")
        assert reply.json()["NeutronError"]["message"].endswith("Multiple projects are using it, at nice.")
        assert at.values(NETWORK, "shared") == {"paris": True, "lyon": True}
        at.sites["paris"].refuse["PUT", "."] = 403
        refused = await at.ask("PUT", NETWORK, asked, **{"X-Auth-Token": STRANGER})
        assert (refused.status, "nice" in refused.body.decode()) == (403, False), "a user who sees the network must not learn who uses it"
        at.sites["paris"].refuse.clear()
        for harmless in ({"shared": True}, {"name": "x"}):
            assert (await at.ask("PUT", NETWORK, {"network": harmless}, **{"X-Auth-Token": ADMIN})).status == 200
        at.sites.users.clear()
        assert (await at.ask("PUT", NETWORK, asked, **{"X-Auth-Token": ADMIN})).status == 200
        assert at.values(NETWORK, "shared") == {"paris": False, "lyon": False}

    run(tmp_path, test)


# --- A scope


@pytest.mark.parametrize("path", [NETWORK, "/v2/images/i"])
def test_scope_that_leaves_copies_out_changes_none(tmp_path: Path, path: str) -> None:
    async def test(at: Cloud) -> None:
        service = "image" if "images" in path else "network"
        at.put(path, paris={"name": "old"}, lyon={"name": "old"})
        everywhere = at.sites.everywhere()

        async def ask(method: str, *scope: str) -> Reply:
            body = {"network": {"name": "new"}} if method == "PUT" else None
            return await at.replicas.everywhere(call(method, path, body, service=service), everywhere, scope)

        for method in ("DELETE", "PUT") if service == "network" else ("DELETE",):
            refused = await ask(method, "paris")
            message = next(iter(refused.json().values()))["message"] if service == "network" else refused.body.decode()
            assert refused.status == 409
            assert "has copies at paris and lyon, which are changed together: name all of these sites in the scope" in message
            assert (await ask(method, "nice")).status == 404, "nice has no copy"
            assert (await ask(method, "nice", "lyon")).status == 409
        assert at.values(path, "name") == {"paris": "old", "lyon": "old"}
        assert at.pending.list() == at.conflicts.list() == []
        assert (await ask("DELETE", "paris", "lyon")).status == 204
        assert at.holders(path) == []

    run(tmp_path, test)


@pytest.mark.parametrize("method", ["DELETE", "PUT"])
def test_site_outside_the_scope_that_is_away_takes_no_part(tmp_path: Path, method: str) -> None:
    async def test(at: Cloud) -> None:
        at.put(NETWORK, paris={"name": "old"}, lyon={"name": "old"})
        at.sites.cut.add("lyon")
        body = {"network": {"name": "new"}} if method == "PUT" else None
        reply = await at.replicas.everywhere(call(method, NETWORK, body, service="network"), at.sites.everywhere(), ["paris", "nice"])
        assert (reply.status, reply.headers["X-Atoll-Missing"]) == (204 if method == "DELETE" else 200, "lyon")
        assert at.pending.list() == []
        at.sites.cut.clear()
        await at.catch_up()
        assert at.values(NETWORK, "name")["lyon"] == "old", "a site outside the scope must stay unchanged"

    run(tmp_path, test)


@pytest.mark.parametrize("status", [401, 403])
def test_site_outside_the_scope_that_forbids_to_look_takes_no_part(tmp_path: Path, status: int) -> None:
    async def test(at: Cloud) -> None:
        at.put(NETWORK, paris={}, lyon={})
        at.sites["lyon"].refuse["GET", "."] = status
        reply = await at.replicas.everywhere(call("DELETE", NETWORK, service="network"), at.sites.everywhere(), ["paris"])
        assert (reply.status, reply.site) == (204, "paris")
        assert at.sites["lyon"].writes() == []
        assert at.pending.list() == at.conflicts.list() == []

    run(tmp_path, test)


def test_sites_outside_the_scope_do_not_make_a_missing_resource_unreachable(tmp_path: Path) -> None:
    async def test(at: Cloud) -> None:
        at.sites.cut.add("lyon")
        at.sites["nice"].refuse["GET", "."] = 403
        reply = await at.replicas.everywhere(call("DELETE", NETWORK, service="network"), at.sites.everywhere(), ["paris"])
        assert (reply.status, reply.site) == (404, "paris")
        assert at.sites["nice"].writes() == []

    run(tmp_path, test)


def test_site_of_the_scope_that_is_away_does_it_later(tmp_path: Path) -> None:
    async def test(at: Cloud) -> None:
        at.put(NETWORK, paris={}, lyon={})
        at.sites.cut |= {"lyon", "nice"}
        assert (await at.replicas.everywhere(call("DELETE", NETWORK, service="network"), at.sites.everywhere(), ["paris", "lyon"])).ok
        assert [each["site"] for each in at.pending.list()] == ["lyon"]
        at.sites.cut.clear()
        await at.catch_up()
        assert at.holders(NETWORK) == []

    run(tmp_path, test)


def test_scope_that_leaves_out_a_recorded_replica_changes_none(tmp_path: Path) -> None:
    """Servers that were created together: the record names their sites, also while one is away."""

    async def test(at: Cloud) -> None:
        servers = {site: f"/v2.1/servers/{site[0]}" for site in ("paris", "lyon")}
        for site, path in servers.items():
            at.put(path, **{site: {}})
        members = {"paris": "p", "lyon": "l"}
        record = {"present": True, "service": "compute", "path": "/v2.1/servers", "members": members}
        at.replicas._document.write([Change(KIND, "p", record)])
        group = at.replicas.group("p")
        assert group is not None
        at.sites.cut.add("lyon")
        refused = await at.replicas.relay(call("DELETE", servers["paris"]), group, "p", ["paris"])
        assert (refused.status, "copies at paris and lyon" in refused.body.decode()) == (409, True)
        assert at.holders(servers["paris"]) == ["paris"]
        assert (await at.replicas.relay(call("DELETE", servers["paris"]), group, "p", ["nice"])).status == 404
        assert at.replicas.group("p") == group
        assert (await at.replicas.relay(call("DELETE", servers["paris"]), group, "p", ["paris", "lyon"])).status == 204
        assert [each["site"] for each in at.pending.list()] == ["lyon"]

    run(tmp_path, test)


# --- All or none


def test_a_change_that_one_site_refuses_is_taken_back_at_the_others(tmp_path: Path) -> None:
    async def test(at: Cloud) -> None:
        at.put(NETWORK, paris={"name": "old", "revision_number": 3}, lyon={"name": "old", "revision_number": 9}, nice={"name": "old"})
        at.sites["lyon"].refuse["PUT", "."] = 400
        reply = await at.ask("PUT", NETWORK, {"network": {"name": "new"}})
        assert (reply.status, reply.site) == (400, "lyon")
        assert at.values(NETWORK, "name") == dict.fromkeys(("paris", "lyon", "nice"), "old")
        assert at.pending.list() == at.conflicts.list() == []

    run(tmp_path, test)


def test_a_change_that_the_first_site_refuses_is_sent_to_no_other(tmp_path: Path) -> None:
    async def test(at: Cloud) -> None:
        at.put(NETWORK, paris={"name": "old"}, lyon={"name": "old"})
        at.sites["paris"].refuse["PUT", "."] = 400
        assert (await at.ask("PUT", NETWORK, {"network": {"name": "new"}})).status == 400
        assert at.sites["lyon"].writes() == []

    run(tmp_path, test)


def test_a_change_that_cant_be_taken_back_is_told(tmp_path: Path) -> None:
    async def test(at: Cloud) -> None:
        image = "/v2/images/i"
        at.put(image, paris={"owner": "project"}, lyon={"owner": "project"})
        at.sites["lyon"].refuse["POST", "/members"] = 403
        at.sites["paris"].things[f"{image}/members/m"] = {}
        reply = await at.ask("POST", f"{image}/members", {"member": "m"}, service="image")
        assert (reply.status, reply.site) == (403, "lyon")
        assert "carried out at paris" in at.conflicts.list()[0]["why"]

    run(tmp_path, test)


def test_a_site_without_a_copy_is_asked_for_nothing_but_whether_it_has_one(tmp_path: Path) -> None:
    async def test(at: Cloud) -> None:
        at.put(NETWORK, lyon={"name": "old"})
        reply = await at.ask("PUT", NETWORK, {"network": {"name": "new"}})
        assert (reply.status, reply.site) == (200, "lyon")
        assert at.sites["paris"].writes() == at.sites["nice"].writes() == []

    run(tmp_path, test)


def test_of_what_nobody_shows_the_nearest_service_says_what_is_wrong(tmp_path: Path) -> None:
    """Nova refuses a tenant the change of a hidden flavor (403) before it looks for the flavor."""

    async def test(at: Cloud) -> None:
        at.sites["paris"].refuse["POST", "/action"] = 403
        reply = await at.ask("POST", "/v2.1/flavors/f/action", {"addTenantAccess": {"tenant": "p"}}, service="compute")
        assert (reply.status, reply.site) == (403, "paris")
        assert at.sites["lyon"].writes() == at.sites["nice"].writes() == []

    run(tmp_path, test)


def test_a_user_may_change_a_resource_without_the_right_to_see_it(tmp_path: Path) -> None:
    """An application credential may allow one method alone."""

    async def test(at: Cloud) -> None:
        at.put(NETWORK, paris={"name": "old"}, lyon={"name": "old"})
        for site in ("paris", "lyon"):
            at.sites[site].refuse["GET", "."] = 401
        reply = await at.ask("PUT", NETWORK, {"network": {"name": "new"}})
        assert (reply.status, reply.site) == (200, "paris,lyon")

    run(tmp_path, test)


# --- On a condition


def numbered(at: Cloud) -> None:
    at.put(
        GROUP,
        paris={"description": "old", "revision_number": 4, "created_at": "2026-02"},
        lyon={"description": "old", "revision_number": 7, "created_at": "2026-01"},
    )


@pytest.mark.parametrize("said", ["revision_number=4", '"revision_number=4"'])
def test_a_condition_that_holds_holds_for_all_copies(tmp_path: Path, said: str) -> None:
    async def test(at: Cloud) -> None:
        numbered(at)
        reply = await at.ask("PUT", GROUP, {"security_group": {"description": "new"}}, **{"If-Match": said})
        assert reply.status == 200
        assert at.values(GROUP, "description") == {"paris": "new", "lyon": "new"}
        assert at.sites["lyon"].headers[-1]["If-Match"] == "revision_number=7", "the condition must be sent to each site"

    run(tmp_path, test)


@pytest.mark.parametrize("said", [3, 5, 7])
def test_a_condition_that_fails_fails_for_all_copies(tmp_path: Path, said: int) -> None:
    async def test(at: Cloud) -> None:
        numbered(at)
        reply = await at.ask("PUT", GROUP, {"security_group": {"description": "new"}}, **{"If-Match": f"revision_number={said}"})
        assert (reply.status, "current revision is 4" in reply.body.decode()) == (412, True)
        assert at.values(GROUP, "description") == {"paris": "old", "lyon": "old"}
        assert at.pending.list() == []

    run(tmp_path, test)


def test_of_two_conditional_changes_at_two_gateways_one_fails_whole(tmp_path: Path) -> None:
    async def test(at: Cloud) -> None:
        numbered(at)
        other = ReplicatedResources(at.sites, Notes(), at.pending, at.sites.make, ChangeContext(at.conflicts))
        asked = [
            call("PUT", GROUP, {"security_group": {"description": name}}, service="network", **{"If-Match": "revision_number=4"})
            for name in ("one", "two")
        ]
        replies = await asyncio.gather(
            at.replicas.everywhere(asked[0], at.sites.everywhere()), other.everywhere(asked[1], at.sites.everywhere())
        )
        assert sorted(reply.status for reply in replies) == [200, 412]
        won = "one" if replies[0].ok else "two"
        assert at.values(GROUP, "description") == {"paris": won, "lyon": won}

    run(tmp_path, test)


@pytest.mark.parametrize(("meanwhile", "becomes"), [("old", "new"), ("theirs", "theirs")])
def test_a_site_that_was_away_changes_on_the_condition_too(tmp_path: Path, meanwhile: str, becomes: str) -> None:
    async def test(at: Cloud) -> None:
        numbered(at)
        at.sites.cut.add("lyon")
        reply = await at.ask("PUT", GROUP, {"security_group": {"description": "new"}}, **{"If-Match": "revision_number=4"})
        assert reply.status == 200
        at.sites["lyon"].things[GROUP]["description"] = meanwhile
        at.sites.cut.clear()
        await at.catch_up()
        assert at.values(GROUP, "description") == {"paris": "new", "lyon": becomes}
        assert len(at.conflicts.list()) == (becomes != "new")

    run(tmp_path, test)


@given(st.integers(0, 10**17), st.sampled_from(["{}", '"{}"', ' W/"{}"', 'x, "{}"']))
def test_the_number_of_a_condition_is_read_as_neutron_reads_it(number: int, form: str) -> None:
    said = form.format(f"revision_number={number}")
    assert conditions.wanted_revision(call("PUT", GROUP, {}, service="network", **{"If-Match": said})) == number


@pytest.mark.parametrize("said", ["*", '"abc"', "revision_number=x", "revision_number=1, revision_number=2", ""])
def test_another_condition_is_the_services_to_judge(said: str) -> None:
    assert conditions.wanted_revision(call("PUT", GROUP, {}, service="network", **{"If-Match": said})) is None


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_refusal_survives_its_header(message: str) -> None:
    refusal = InUseRefusal("NetworkInUse", message)
    assert InUseRefusal.load(refusal.dump()) == refusal
    assert refusal.dump().isascii()
    assert "\n" not in refusal.dump()


# --- Rights


def test_an_administrator_deletes_what_is_not_in_use_whoever_owns_it(tmp_path: Path) -> None:
    async def test(at: Cloud) -> None:
        at.put(NETWORK, paris={"project_id": "another"}, lyon={"project_id": "another"})
        assert (await at.ask("DELETE", NETWORK, **{"X-Auth-Token": ADMIN})).status == 204
        at.put(NETWORK, paris={"project_id": "another"}, lyon={"project_id": "another"})
        assert (await at.ask("DELETE", NETWORK, **{"X-Auth-Token": USER})).status == 404
        assert json.dumps(at.holders(NETWORK)) == '["paris", "lyon"]'

    run(tmp_path, test)

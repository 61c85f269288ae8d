"""Random tenants with random requests, at sites that are cut off and healed: no step gains a user any right."""

from __future__ import annotations

import asyncio
import os
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from rights_world import NAMES, World

from atoll.gateway.bring import pull
from atoll.gateway.copies import pending
from atoll.gateway.request.call import Unreachable

STEPS = int(os.environ.get("ATOLL_STEPS", "300"))
STEPS_EACH = 50

USERS = ("ann", "bob", "eve")
MOST = 3
"""Images, and networks, at a time: few, so that many requests are about the same one."""

SITES = st.sampled_from(NAMES)
ANYBODY = st.sampled_from((*USERS, "admin"))
TENANTS = st.sampled_from(USERS)
WHICH = st.integers(0, MOST - 1)
NEW = {"name": "i"}


class Rights(RuleBasedStateMachine):
    """The cloud, and a model of each resource's owner and of everything that the owner has ever allowed.

    Attributes:
        ever: by kind, id and owner, the projects that the owner has ever let use it.
        deleted: what its owner or an administrator has asked to delete: id and owner.
        had: what was at each site before the last step.
    """

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.new_event_loop()
        self._directory = tempfile.TemporaryDirectory(prefix="rights", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        self.world = World(Path(self._directory.name))
        self.ids: list[str] = []
        self.networks: list[str] = []
        self.policies: list[str] = []
        self.ever: set[tuple[str, str, str]] = set()
        self.now: set[tuple[str, str, str]] = set()
        self.deleted: set[tuple[str, str]] = set()
        self.had: set[tuple[str, str, str]] = set()

    def teardown(self) -> None:
        try:
            self._loop.run_until_complete(self.world.settle(1))
        finally:
            self.world.close()
            self._loop.close()
            self._directory.cleanup()

    def ask(self, site: str, user: str, method: str, service: str, path: str, body: Any = None, **more: str) -> Any:
        async def asked() -> Any:
            try:
                return await self.world.ask(site, user, (method, service, path), body, **more)
            except Unreachable:
                return None

        return self._loop.run_until_complete(asked())

    def pick(self, things: list[str], which: int) -> str:
        return things[which % len(things)]

    def actor(self, identifier: str, site: str, user: str, *, owns: bool) -> tuple[str, str]:
        """Return site and user of a request: those that were drawn, or the owner of a resource at its site."""
        places = [node for node in self.world.nodes.values() if identifier in node.services.images or identifier in node.services.networks]
        if not owns or not places:
            return site, user
        place = next((each for each in places if each.name == site), places[0])
        thing = place.services.images.get(identifier) or place.services.networks[identifier]
        return place.name, str(thing.get("owner") or thing["project_id"])

    def forget_gone(self) -> None:
        """Forget resources that no longer exist, to make room for new ones."""
        self.ids = [each for each in self.ids if self.owners(each)]
        self.networks = [each for each in self.networks if self.owners(each)]

    def owners(self, identifier: str) -> set[str]:
        """Return the owners of the resources under an id, at any site."""
        found = {node.services.images[identifier]["owner"] for node in self.world.nodes.values() if identifier in node.services.images}
        nets = [node.services.networks for node in self.world.nodes.values()]
        return found | {each[identifier]["project_id"] for each in nets if identifier in each}

    def allow(self, user: str, identifier: str, project: str) -> None:
        for owner in self.owners(identifier):
            if user in {owner, "admin"}:
                self.ever.add((identifier, owner, project))
                self.now.add((identifier, owner, project))

    # Images

    @rule(
        site=SITES, user=TENANTS, keep=st.sampled_from(("", "pau", "everywhere")), seen=st.sampled_from(("private", "shared", "community"))
    )
    def make_image(self, site: str, user: str, keep: str, seen: str) -> None:
        reply = self.ask(site, user, "POST", "image", "/v2/images", {**NEW, "visibility": seen, **({"atoll_keep": keep} if keep else {})})
        image = reply.json()["id"]
        self.ids.append(image)
        self.opened(image, user, seen)
        self.ask(site, user, "PUT", "image", f"/v2/images/{image}/file", f"data of {user} {image}".encode())

    @precondition(lambda self: len(self.ids) < MOST)
    @rule(user=TENANTS, scope=st.sampled_from(("{image: brest & metz}", "{image: pau || brest}")))
    def make_image_at_two_sites(self, user: str, scope: str) -> None:
        reply = self.ask("brest", user, "POST", "image", "/v2/images", {**NEW, "visibility": "private"}, scope=scope)
        if reply is not None and reply.ok:
            image = reply.json()["id"]
            self.ids.append(image)
            self.ask("brest", user, "PUT", "image", f"/v2/images/{image}/file", f"data of {user} {image}".encode())

    @precondition(lambda self: self.ids)
    @rule(site=SITES, user=TENANTS, which=WHICH, scope=st.sampled_from(("", "{image: brest & pau}")), forged=st.booleans())
    def choose_an_id(self, site: str, user: str, which: int, scope: str, *, forged: bool) -> None:
        """A tenant's choice of an id is refused. (Headers of gateways never pass a public port: `of_client`.)"""
        headers = {"X-Service-Token": "user admin", "X-Atoll-Identity": '{"owner": "x"}'} if forged else {}
        body = {**NEW, "id": self.pick(self.ids, which), "atoll_keep": site}
        reply = self.ask(site, user, "POST", "image", "/v2/images", body, scope=scope, **headers)
        assert reply is None or not reply.ok

    @precondition(lambda self: self.ids)
    @rule(site=SITES, user=TENANTS, which=WHICH, seen=st.sampled_from(("private", "shared", "community", "public")), filled=st.booleans())
    def squat(self, site: str, user: str, which: int, seen: str, *, filled: bool) -> None:
        """An administrator creates another image for a tenant under the same id, as may exist from earlier versions."""
        image = self.pick(self.ids, which)
        free = [name for name in NAMES if image not in self.world[name].services.used]
        if not free:
            return
        site = site if site in free else free[0]
        body = {**NEW, "id": image, "owner": user, "visibility": seen, "atoll_keep": site}
        reply = self.ask(site, "admin", "POST", "image", "/v2/images", body, scope=f"{{image: {site}}}")
        if reply is not None and reply.ok:
            self.opened(image, user, seen)
            if filled:
                self.ask(
                    site,
                    "admin",
                    "PUT",
                    "image",
                    f"/v2/images/{image}/file",
                    f"data of {user} {image}".encode(),
                    scope=f"{{image: {site}}}",
                )

    def opened(self, image: str, owner: str, seen: str) -> None:
        if seen in {"community", "public"}:
            self.ever |= {(image, owner, project) for project in USERS}

    @precondition(lambda self: self.ids)
    @rule(site=SITES, user=ANYBODY, which=WHICH, owns=st.booleans())
    def delete_image(self, site: str, user: str, which: int, *, owns: bool) -> None:
        image = self.pick(self.ids, which)
        site, user = self.actor(image, site, user, owns=owns)
        self.deleted |= {(image, owner) for owner in self.owners(image) if user in {owner, "admin"}}
        self.ask(site, user, "DELETE", "image", f"/v2/images/{image}")

    @precondition(lambda self: self.ids)
    @rule(site=SITES, user=ANYBODY, which=WHICH, seen=st.sampled_from(("private", "shared", "community")), owns=st.booleans())
    def show_image(self, site: str, user: str, which: int, seen: str, *, owns: bool) -> None:
        image = self.pick(self.ids, which)
        site, user = self.actor(image, site, user, owns=owns)
        for owner in self.owners(image):
            if user in {owner, "admin"}:
                self.opened(image, owner, seen)
        patch = [{"op": "replace", "path": "/visibility", "value": seen}]
        self.ask(site, user, "PATCH", "image", f"/v2/images/{image}", patch)

    @precondition(lambda self: self.ids)
    @rule(site=SITES, user=TENANTS, which=WHICH, keep=SITES, owns=st.booleans())
    def keep_image(self, site: str, user: str, which: int, keep: str, *, owns: bool) -> None:
        image = self.pick(self.ids, which)
        site, user = self.actor(image, site, user, owns=owns)
        self.ask(site, user, "PATCH", "image", f"/v2/images/{image}", [{"op": "add", "path": "/atoll_keep", "value": keep}])

    @precondition(lambda self: self.ids)
    @rule(site=SITES, user=TENANTS, which=WHICH, project=TENANTS, owns=st.booleans())
    def share_image(self, site: str, user: str, which: int, project: str, *, owns: bool) -> None:
        image = self.pick(self.ids, which)
        site, user = self.actor(image, site, user, owns=owns)
        self.allow(user, image, project)
        self.ask(site, user, "POST", "image", f"/v2/images/{image}/members", {"member": project})

    @precondition(lambda self: self.ids)
    @rule(site=SITES, user=TENANTS, which=WHICH, project=TENANTS, owns=st.booleans())
    def unshare_image(self, site: str, user: str, which: int, project: str, *, owns: bool) -> None:
        image = self.pick(self.ids, which)
        site, user = self.actor(image, site, user, owns=owns)
        self.ask(site, user, "DELETE", "image", f"/v2/images/{image}/members/{project}")

    @precondition(lambda self: self.ids)
    @rule(site=SITES, user=TENANTS, which=WHICH)
    def boot(self, site: str, user: str, which: int) -> None:
        server = {"server": {"name": "s", "imageRef": self.pick(self.ids, which)}}
        self.ask(site, user, "POST", "compute", "/v2.1/servers", server)

    # Networks

    @precondition(lambda self: len(self.networks) < MOST)
    @rule(site=SITES, user=TENANTS, scope=st.sampled_from(("", "{network: brest & pau}")))
    def make_network(self, site: str, user: str, scope: str) -> None:
        reply = self.ask(site, user, "POST", "network", "/v2.0/networks", {"network": {"name": "n"}}, scope=scope)
        if reply is not None and reply.ok:
            self.networks.append(reply.json()["network"]["id"])

    @precondition(lambda self: self.networks)
    @rule(site=SITES, user=TENANTS, which=WHICH, project=TENANTS, owns=st.booleans())
    def share_network(self, site: str, user: str, which: int, project: str, *, owns: bool) -> None:
        network = self.pick(self.networks, which)
        site, user = self.actor(network, site, user, owns=owns)
        self.allow(user, network, project)
        policy = {"object_type": "network", "object_id": network, "action": "access_as_shared", "target_tenant": project}
        reply = self.ask(site, user, "POST", "network", "/v2.0/rbac-policies", {"rbac_policy": policy})
        if reply is not None and reply.ok:
            self.policies.append(reply.json()["rbac_policy"]["id"])

    @precondition(lambda self: self.policies)
    @rule(site=SITES, user=TENANTS, which=st.integers(0, 9), owns=st.booleans())
    def unshare_network(self, site: str, user: str, which: int, *, owns: bool) -> None:
        policy = self.pick(self.policies, which)
        for node in self.world.nodes.values():
            if owns and policy in node.services.policies:
                site, user = node.name, node.services.policies[policy]["project_id"]
        self.ask(site, user, "DELETE", "network", f"/v2.0/rbac-policies/{policy}")

    @precondition(lambda self: self.networks)
    @rule(site=SITES, user=TENANTS, which=WHICH)
    def use_network(self, site: str, user: str, which: int) -> None:
        self.ask(site, user, "POST", "network", "/v2.0/ports", {"port": {"network_id": self.pick(self.networks, which)}})

    @precondition(lambda self: self.networks)
    @rule(site=SITES, user=ANYBODY, which=WHICH, owns=st.booleans())
    def delete_network(self, site: str, user: str, which: int, *, owns: bool) -> None:
        network = self.pick(self.networks, which)
        site, user = self.actor(network, site, user, owns=owns)
        self.deleted |= {(network, owner) for owner in self.owners(network) if user in {owner, "admin"}}
        self.ask(site, user, "DELETE", "network", f"/v2.0/networks/{network}")

    # The network between them

    @rule(site=SITES)
    def cut(self, site: str) -> None:
        self.world.cut = {site}

    @rule()
    def heal(self) -> None:
        self.world.cut = set()

    @rule()
    def work(self) -> None:
        self._loop.run_until_complete(self.world.settle(1))

    @rule()
    def settle(self) -> None:
        """Once all sites see each other and have no work left, grants equal those that owners make where the resources are native."""
        self.world.cut = set()
        for node in self.world.nodes.values():
            node.bringer.loans._touched |= node.bringer._ledger.lent()
        self._loop.run_until_complete(self.world.settle(6))
        for node in self.world.nodes.values():
            assert [loan for loan in node.bringer._ledger.loans() if loan.ended] == []
            for policy in node.services.policies.values():
                if policy["project_id"] not in USERS:
                    assert self.granted(policy["object_id"], policy["target_tenant"]), (node.name, policy)
            for kind, identifier, project in node.bringer._ledger._database.execute("SELECT kind, id, project FROM grants"):
                natives = self.natives(kind, identifier, project)
                assert not natives or any(natives), (node.name, kind, identifier, project)

    def natives(self, kind: str, identifier: str, project: str) -> list[bool]:
        """Return, for each site where the owner created the resource, whether that site lets a project use it."""
        nodes = self.world.nodes.values()
        found = [self._loop.run_until_complete(node.bringer.images.holders.here(kind, identifier, project)) for node in nodes]
        return [bool(each.granted) for each in found if each is not None and each.native]

    def granted(self, network: str, project: str) -> bool:
        """Return whether the owner lets a project use a network at any site where the owner created it."""
        return any(
            policy["object_id"] == network and policy["target_tenant"] == project and policy["project_id"] in USERS
            for node in self.world.nodes.values()
            for policy in node.services.policies.values()
        )

    # What always holds

    @invariant()
    def data_are_their_owners(self) -> None:
        for node in self.world.nodes.values():
            for image, data in node.services.data.items():
                assert data.decode().startswith(f"data of {node.services.images[image]['owner']} "), (node.name, image)

    @invariant()
    def nobody_sees_what_its_owner_never_showed(self) -> None:
        for node in self.world.nodes.values():
            for image in node.services.images.values():
                assert image["visibility"] != "public" or image["owner"] in USERS
                for project in node.services.members.get(image["id"], set()) - {image["owner"]}:
                    assert (image["id"], image["owner"], project) in self.ever, (node.name, image, project)
                if image["visibility"] in {"community", "public"}:
                    assert (image["id"], image["owner"], "eve") in self.ever, (node.name, image)
            for policy in node.services.policies.values():
                network = node.services.networks[policy["object_id"]]
                assert (network["id"], network["project_id"], policy["target_tenant"]) in self.ever, (node.name, policy)

    @invariant()
    def nothing_is_deleted_but_by_its_owner(self) -> None:
        has = {
            (node.name, identifier, owner)
            for node in self.world.nodes.values()
            for identifier, owner in (
                *((each["id"], each["owner"]) for each in node.services.images.values()),
                *((each["id"], each["project_id"]) for each in node.services.networks.values()),
            )
        }
        for site, identifier, owner in self.had - has:
            assert (identifier, owner) in self.deleted, f"{identifier} of {owner} at {site}"
        self.had = has
        self.forget_gone()


def test_no_step_gains_a_right(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pending, "UNDELIVERED_S", 0.0)
    monkeypatch.setattr(pull, "RETRY_S", 0.0)
    run_state_machine_as_test(
        Rights,
        settings=settings(
            max_examples=max(1, STEPS // STEPS_EACH),
            stateful_step_count=STEPS_EACH,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


def test_cloud_of_the_model_does_what_is_right(tmp_path: Path):
    """The model must work, so that the absence of gained rights proves something."""

    async def main(world: World) -> None:
        body = {"name": "i", "visibility": "shared", "atoll_keep": "pau"}
        image = (await world.ask("brest", "ann", ("POST", "image", "/v2/images"), body)).json()["id"]
        assert (await world.ask("brest", "ann", ("PUT", "image", f"/v2/images/{image}/file"), b"data of ann")).status == 204
        await world.settle(1)
        assert world["pau"].services.data == {image: b"data of ann"}
        server = {"server": {"name": "s", "imageRef": image}}
        assert (await world.ask("metz", "bob", ("POST", "compute", "/v2.1/servers"), server)).status == 400
        assert (await world.ask("brest", "ann", ("POST", "image", f"/v2/images/{image}/members"), {"member": "bob"})).ok
        assert (await world.ask("metz", "bob", ("POST", "compute", "/v2.1/servers"), server)).status == 202
        assert world["metz"].services.members[image] == {"bob"}
        network = (await world.ask("brest", "ann", ("POST", "network", "/v2.0/networks"), {"network": {"name": "n"}})).json()["network"][
            "id"
        ]
        policy = {"object_type": "network", "object_id": network, "action": "access_as_shared", "target_tenant": "bob"}
        shared = await world.ask("brest", "ann", ("POST", "network", "/v2.0/rbac-policies"), {"rbac_policy": policy})
        port = {"port": {"network_id": network}}
        assert (await world.ask("pau", "eve", ("POST", "network", "/v2.0/ports"), port, scope="{network: pau}")).status == 404
        assert (await world.ask("pau", "bob", ("POST", "network", "/v2.0/ports"), port, scope="{network: pau}")).status == 201
        assert [each["target_tenant"] for each in world["pau"].services.policies.values()] == ["bob"]
        world.cut = {"pau"}
        gone = await world.ask("brest", "ann", ("DELETE", "network", f"/v2.0/rbac-policies/{shared.json()['rbac_policy']['id']}"))
        assert gone.status == 204
        assert (await world.ask("brest", "ann", ("DELETE", "image", f"/v2/images/{image}"))).status == 204
        await world.settle(1)
        assert image in world["pau"].services.images
        world.cut = set()
        await world.settle(2)
        assert world["pau"].services.policies == {}
        assert not any(node.services.images for node in world.nodes.values())

    with closing(World(tmp_path)) as world:
        asyncio.run(main(world))

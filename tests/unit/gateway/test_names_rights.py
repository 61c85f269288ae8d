"""Only a user who may use a name can have other sites asked for it."""

from __future__ import annotations

import asyncio

import pytest
from gateway_cloud import Cloud
from replica_sites import Notes

from atoll.gateway.copies.clashes import NameClashes, Suspect
from atoll.gateway.copies.conflicts import Conflicts
from atoll.gateway.copies.replicas import ReplicatedResources
from atoll.gateway.request.call import json_reply
from atoll.gateway.resolve.unique import Name

NEW = {"OpenStack-API-Version": "compute 2.60"}
PEOPLE = {"mallory": ("p1", ("member", "reader")), "admin": ("p0", ("admin", "member", "reader"))}
OTHERS = {"keypair": {"name": "laptop", "public_key": "k", "user_id": "victim"}}
FLAVOR = {"flavor": {"name": "secret", "id": "7", "ram": 1, "vcpus": 1, "disk": 1}}
IMAGE = {"id": "11111111-2222-4333-8444-555555555555"}
NETWORK = {"network": {"id": "11111111-2222-4333-8444-555555555555"}}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/compute/v2.1/os-keypairs", OTHERS),
        ("/compute/v2.1/flavors", FLAVOR),
        ("/image/v2/images", IMAGE),
        ("/network/v2.0/networks", NETWORK),
    ],
)
@pytest.mark.parametrize("person", ["", "no token", "mallory", "admin"])
def test_other_sites_are_asked_for_names_only_for_who_may_take_them(tmp_path, path, body, person):
    asked: list[Name] = []

    def clashes(site):
        made = NameClashes(site.sites, Conflicts())

        async def all_others(names):
            asked.extend(names)
            return names[0], []

        made.names._ask_all = all_others
        return made

    async def main():
        cloud = Cloud(tmp_path, "paris", "lyon")
        cloud.parts = {"clashes": clashes}
        async with cloud:
            for name in ("paris", "lyon"):
                cloud[name].services.people = PEOPLE
            return (await cloud.ask("paris", "POST", path, headers=NEW | {"X-Auth-Token": person}, json=body))[0]

    status = asyncio.run(main())
    assert bool(asked) == (person == "admin")
    assert (status == 409) == (person == "admin"), "only an administrator may learn that another site has the name"


@pytest.mark.parametrize(
    ("path", "suspect"),
    [
        ("/compute/v2.1/flavors/7", ("flavor", "7", "")),
        ("/compute/v2.1/os-keypairs/laptop?user_id=victim", ("key pair", "laptop", "victim")),
    ],
)
@pytest.mark.parametrize("person", ["no token", "mallory", "admin"])
def test_a_user_who_may_not_use_a_name_does_not_learn_of_its_clash(tmp_path, path, suspect, person):
    def clashes(site):
        made = NameClashes(site.sites, Conflicts())
        made._watch(Suspect(Name(*suspect), ("lyon", "nice")), clashes=True)
        return made

    class Nowhere(ReplicatedResources):
        async def everywhere(self, call, sites, scope=None):
            return json_reply(404, {}, "paris")

    def replicas(site):
        return Nowhere(site.sites, Notes(), None, None)

    async def main():
        cloud = Cloud(tmp_path, "paris", "lyon", "nice")
        cloud.parts = {"clashes": clashes, "replicas": replicas}
        async with cloud:
            for name in ("paris", "lyon", "nice"):
                cloud[name].services.people = PEOPLE
            answer = await cloud.ask("paris", "DELETE", path, headers=NEW | {"X-Auth-Token": person})
            return answer[0], str(answer[1])

    status, said = asyncio.run(main())
    assert (status, "is not the same at" in said) == ((409, True) if person == "admin" else (404, False))

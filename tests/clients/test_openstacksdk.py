"""openstacksdk from the project's own environment creates and deletes a tenant's resources over three sites."""

import sys

from foreign import HERE, Client

PROGRAM = HERE / "with_openstacksdk.py"


def test_a_tenancy_is_made_and_removed_twice(client: Client) -> None:
    before = client.belongings()
    for _ in range(2):
        client.run(sys.executable, PROGRAM, "make", client.tenant.name, client.image)
        made = client.belongings()
        for site, has in made.items():
            assert len(has["servers"]) == 1, site
        client.run(sys.executable, PROGRAM, "remove", client.tenant.name, client.image)
        assert client.belongings() == before

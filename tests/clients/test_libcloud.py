"""Apache Libcloud makes and removes a tenancy over three sites."""

from pathlib import Path

from foreign import HERE, Client
from three_sites import SITES, Tenant

PROGRAM = HERE / "with_libcloud.py"


def prepare(client: Client, admin: Tenant) -> None:
    """Create the resources that Libcloud cannot create: an image at brest and a flavor."""
    name, api = client.tenant.name, client.tenant.api("brest")
    image = api.expect("image", "POST", "/v2/images", {"name": name, "disk_format": "raw", "container_format": "bare"})["id"]
    api.expect("image", "PUT", f"/v2/images/{image}/file", data=client.image.read_bytes())
    flavor = {"name": name, "ram": 64, "vcpus": 1, "disk": 1}
    admin.api("brest").expect("compute", "POST", "/flavors", {"flavor": flavor})


def test_a_tenancy_is_made_and_removed_twice(client: Client, admin: Tenant, programs: Path) -> None:
    prepare(client, admin)
    name = client.tenant.name
    before = client.belongings()
    for _ in range(2):
        client.run(programs / "python", PROGRAM, "make", name)
        made = client.belongings()
        for site in SITES:
            assert len(made[site]["servers"]) == 1, site
        client.run(programs / "python", PROGRAM, "remove", name)
        # Libcloud did not create the image and the flavor, so they stay at the sites of its servers.
        assert without(client.belongings(), "images", "flavors") == without(before, "images", "flavors")


def without(belongings: dict[str, dict[str, set[str]]], *keys: str) -> dict[str, dict[str, set[str]]]:
    return {site: {key: ids for key, ids in has.items() if key not in keys} for site, has in belongings.items()}

"""The first steps of a user: an image, a network, three servers, with the SDK and with the client."""

import hashlib
import json
import os

import pytest
from deployment import NAMES

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of the SDK about its own dependencies

IMAGE = os.urandom(3_000_000)


@pytest.fixture
def sdk(paris, monkeypatch):
    """Return a connection from the clouds.yaml of `atoll up`."""
    for name in [name for name in os.environ if name.startswith("OS_")]:
        monkeypatch.delenv(name)
    import openstack

    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(paris.root / "clouds.yaml"))
    connection = openstack.connect(cloud="paris")
    yield connection
    connection.close()


def test_three_servers_with_the_sdk(sdk, tmp_path):
    file = tmp_path / "image.raw"
    file.write_bytes(IMAGE)
    image = sdk.create_image("job", filename=str(file), disk_format="raw", container_format="bare", wait=True)
    assert hashlib.sha256(sdk.image.download_image(image).content).digest() == hashlib.sha256(IMAGE).digest()

    network = sdk.network.create_network(name="job")
    subnet = sdk.network.create_subnet(name="job", network_id=network.id, ip_version=4, cidr="10.1.0.0/24")
    outside = sdk.network.create_network(
        name="outside", is_router_external=True, provider_network_type="flat", provider_physical_network="outside"
    )
    sdk.network.create_subnet(name="outside", network_id=outside.id, ip_version=4, cidr="192.0.2.0/24", is_dhcp_enabled=False)
    router = sdk.network.create_router(name="job", external_gateway_info={"network_id": outside.id})
    sdk.network.add_interface_to_router(router, subnet_id=subnet.id)

    flavor = sdk.compute.find_flavor("m1.tiny")
    made = [
        sdk.compute.create_server(name=f"job-{index}", image_id=image.id, flavor_id=flavor.id, networks=[{"uuid": network.id}])
        for index in range(3)
    ]
    servers = [sdk.compute.wait_for_server(server, interval=0.2, wait=240) for server in made]
    assert [server.status for server in servers] == ["ACTIVE"] * 3
    addresses = {server.addresses["job"][0]["addr"] for server in servers}
    assert len(addresses) == 3
    assert all(address.startswith("10.1.0.") for address in addresses)
    assert {server.compute_host for server in servers} == {"paris"}
    assert {server.availability_zone for server in servers} == {"paris"}

    floating = sdk.network.create_ip(floating_network_id=outside.id)
    port = next(iter(sdk.network.ports(device_id=servers[0].id)))
    sdk.network.update_ip(floating, port_id=port.id)
    assert sdk.network.get_ip(floating).fixed_ip_address == servers[0].addresses["job"][0]["addr"]

    sdk.network.delete_ip(floating)
    for server in servers:
        sdk.compute.delete_server(server)
    for server in servers:
        sdk.compute.wait_for_delete(server, interval=0.2, wait=240)
    sdk.network.remove_interface_from_router(router, subnet_id=subnet.id)
    sdk.network.delete_router(router)
    for each in (network, outside):
        sdk.network.delete_network(each)
    sdk.image.delete_image(image)
    assert sdk.image.find_image("job") is None


def test_server_with_the_unmodified_client(paris, kept):
    def openstack(*arguments: str):
        return json.loads(paris.atoll("openstack", *arguments, "-f", "json"))

    # By id: other tests of this site may have made images and networks of the same name.
    chosen = ("--image", kept.tenancy.image, "--flavor", "m1.nano", "--network", kept.tenancy.network)
    made = openstack("server", "create", "by-hand", *chosen, "--wait")
    assert made["status"] == "ACTIVE"
    listed = {server["Name"]: server for server in openstack("server", "list")}
    assert listed["by-hand"]["Networks"]["bench"][0].startswith("10.90.")
    paris.atoll("openstack", "server", "delete", "--wait", made["id"])


def test_the_client_passes_its_exit_code_on(paris):
    done = paris.run("openstack", "server", "show", "nosuch")
    assert done.returncode == 1
    assert "nosuch" in done.stderr


def test_env_makes_any_client_the_administrator(paris):
    exports = json.loads(paris.atoll("env", "paris", "--json"))
    settings = paris.settings()
    assert exports["OS_AUTH_URL"] == settings.public_url("identity", "/v3")
    assert exports["OS_PASSWORD"] == settings.secrets["admin"]


def test_status_shows_every_service(paris):
    status = json.loads(paris.atoll("status", "--json"))
    (site,) = [site for site in status["sites"] if site["name"] == "paris"]
    assert site["state"] == "up"
    assert [row["name"] for row in site["processes"]] == [f"paris/{name}" for name in NAMES]
    assert all(row["state"] == "ready" and row["memory_bytes"] > 10_000_000 for row in site["processes"])
    table = paris.atoll("status")
    assert all(f"paris/{name} " in table for name in ("keystone", "nova"))

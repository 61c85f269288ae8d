from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import pytest
from keystoneauth1.exceptions import ConnectFailure

from atoll.cloud import PORT_OFFSETS
from atoll.errors import AtollError
from atoll.guest import LEAST_MIB
from atoll.services import Settings
from atoll.site.composition import SECRETS
from atoll.tempest.resources import GUEST_FLAVORS, Lookup, Resources

PORTS = {name: 15000 + offset for name, offset in PORT_OFFSETS.items()}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings("paris", tmp_path, tmp_path, "127.0.0.1", PORTS, dict.fromkeys(SECRETS, "password"))


@pytest.fixture
def with_guests(settings: Settings) -> Settings:
    return replace(settings, hypervisor="qemu", network="ovn", outside="10.77.3.129/25")


class FakeSite:
    """A double of the site's APIs: a few collections at the real paths, without filters."""

    def __init__(self, **found: list[dict[str, object]]) -> None:
        self.found = {name: found.get(name, []) for name in ("images", "flavors", "networks", "subnetpools", "extensions")}
        self.made: list[dict[str, object]] = []
        self.uploads: list[bytes] = []

    def get(self, url: str, params: dict[str, str] | None = None) -> SimpleNamespace:
        name = url.partition("?")[0].rpartition("/")[2]
        wanted = (params or {}).get("name") or url.partition("name=")[2].partition("&")[0]
        found = [item for item in self.found[name] if not wanted or item["name"] == wanted]
        return SimpleNamespace(json=lambda: {name: found})

    def post(self, url: str, json: dict[str, object]) -> SimpleNamespace:
        name, fields = next(iter(json.items())) if len(json) == 1 else ("image", json)
        assert isinstance(fields, dict)
        made = {**fields, "id": f"{name} {fields['name']}", "subnets": []}
        self.made.append({name: fields})
        self.found.get(f"{name}s", []).append(made)
        return SimpleNamespace(json=lambda: made if name == "image" else {name: made})

    def put(self, url: str, data: bytes | BinaryIO, headers: dict[str, str]) -> None:
        content = data if isinstance(data, bytes) else data.read()
        assert len(content) > 0
        self.uploads.append(content)
        assert headers["Content-Type"] == "application/octet-stream"


def look(settings: Settings, site: FakeSite, *, create: bool = True, image: Path | None = None) -> tuple[Resources, list[str]]:
    said: list[str] = []
    return Lookup(settings, create=create, report=said.append, guest_image=image, session=site).resources(), said


def test_missing_resources_are_created_and_reported(settings):
    site = FakeSite(extensions=[{"alias": "router"}, {"alias": "dns"}])
    resources, said = look(settings, site)
    assert resources == Resources(
        images=("image tempest", "image tempest-alt"),
        flavors=("flavor m1.nano", "flavor m1.tiny"),
        public_network=("network public", "public"),
        subnet_pool="subnetpool shared-default-v4",
        extensions=("dns", "router"),
    )
    assert [line.split()[1] for line in said] == ["image", "image", "flavor", "flavor", "network", "subnet", "subnet"]
    assert len(site.uploads) == 2


def test_second_time_nothing_is_made(settings):
    site = FakeSite()
    first, _said = look(settings, site)
    site.found["networks"][0]["subnets"] = ["s1"]
    site.made.clear()
    assert look(settings, site, create=False) == (first, [])
    assert site.made == []


def test_network_without_subnet_gets_one(settings):
    site = FakeSite(networks=[{"id": "n7", "name": "outside", "subnets": []}])
    resources, _said = look(settings, site)
    assert resources.public_network == ("n7", "outside")
    assert [fields["network_id"] for made in site.made for kind, fields in made.items() if kind == "subnet"] == ["n7"]


def test_nothing_is_made_unasked(settings):
    site = FakeSite()
    with pytest.raises(AtollError, match="paris has no image tempest") as caught:
        look(settings, site, create=False)
    assert caught.value.kind.code == "tempest.missing"
    assert site.made == []


def test_site_that_does_not_answer(settings, monkeypatch):
    site = FakeSite()

    def refuse(_url: str) -> SimpleNamespace:
        raise ConnectFailure("Unable to establish connection\nmore")

    monkeypatch.setattr(site, "get", refuse)
    with pytest.raises(AtollError, match=r"paris gives an unexpected answer: Unable to establish connection$") as caught:
        look(settings, site)
    assert caught.value.kind.code == "site.not_running"


def test_guests_get_an_image_that_boots_and_memory_to_boot_it(with_guests, tmp_path):
    image = tmp_path / "guest.img"
    image.write_bytes(b"a guest")
    site = FakeSite()
    resources, said = look(with_guests, site, image=image)
    assert resources.images == ("image tempest", "image tempest-alt")
    assert site.uploads == [b"a guest", b"a guest"]
    assert resources.flavors == ("flavor tempest", "flavor tempest-alt")
    first, second = GUEST_FLAVORS.values()
    assert LEAST_MIB < first < second
    assert [line for line in said if "image" in line] == ["made image tempest on paris", "made image tempest-alt on paris"]


def test_packets_of_guests_come_through_the_external_network(with_guests):
    site = FakeSite(images=[{"id": "i1", "name": "tempest"}, {"id": "i2", "name": "tempest-alt"}])
    look(with_guests, site)
    (network,) = [fields for made in site.made for kind, fields in made.items() if kind == "network"]
    (subnet,) = [fields for made in site.made for kind, fields in made.items() if kind == "subnet"]
    assert (network["provider:network_type"], network["provider:physical_network"]) == ("flat", "public")
    assert (subnet["cidr"], subnet["gateway_ip"], subnet["enable_dhcp"]) == ("10.77.3.128/25", "10.77.3.129", False)


def test_an_image_of_that_name_that_is_another_one_is_told_of(with_guests, tmp_path):
    image = tmp_path / "guest.img"
    image.write_bytes(b"a guest")
    old = {"id": "i1", "name": "tempest", "os_hash_algo": "sha512", "os_hash_value": "0000"}
    with pytest.raises(AtollError, match="paris has an image tempest with another content"):
        look(with_guests, FakeSite(images=[old]), image=image)

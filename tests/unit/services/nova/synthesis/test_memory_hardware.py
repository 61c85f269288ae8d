"""The hardware of captured guests: servers with the same hardware resume, with devices at the captured places; others are refused."""

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from machine_xml import CDROM, FEATURES, definition

from atoll.services.nova.synthesis import hardware, save_image
from atoll.services.nova.synthesis.overlays import OverlayRefusal


def captured(**more: object) -> hardware.Hardware:
    return hardware.describe(definition(live=True, features=FEATURES, interfaces=0, **more))


def places(xml: str) -> list[str]:
    return [place for _, place in hardware.describe(xml).devices]


def test_description_survives_its_file():
    found = captured()
    assert (found.cpu, found.features, found.machine, found.memory_kib) == ("EPYC", ("+erms", "-vme"), "pc-i440fx-10.0", 524288)
    assert hardware.parse(found.pack()) == found
    assert b"72a5ac82" not in found.pack(), "the captured server's id stays with its owner"


def test_server_gets_the_captured_places_and_keeps_its_own_identity():
    xml = definition("instance-9", slots=(2, 3, 4), interfaces=2)
    made = hardware.resumable(xml, captured(slots=(2, 7, 9)))
    assert places(made) == ["pci 0000:00:07.0", "", "", "pci 0000:00:02.0", "pci 0000:00:09.0"]
    root = ElementTree.fromstring(made)
    assert root.findall("devices/interface") == []
    assert (root.findtext("name"), root.find("devices/disk/source").get("file")) == ("instance-9", "/instances/instance-9/disk")


def test_interfaces_are_attached_wherever_there_is_room():
    found = [ElementTree.fromstring(each) for each in hardware.interfaces(definition(interfaces=2, live=True))]
    assert [each.find("mac").get("address") for each in found] == ["fa:16:3e:00:00:00", "fa:16:3e:00:00:01"]
    assert [each.find(name) for each in found for name in ("address", "alias")] == [None] * 4


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ({"memory": 1 << 20}, "memory in KiB: expected 524288, but the server has 1048576"),
        ({"machine": "pc-i440fx-9.2"}, "machine type: expected pc-i440fx-10.0, but the server has pc-i440fx-9.2"),
        (
            {"drives": CDROM},
            "device: expected controller index=0 model=pci-root type=pci, but the server has disk device=cdrom target.bus=ide",
        ),
    ],
)
def test_other_hardware_is_refused(server, expected):
    with pytest.raises(OverlayRefusal) as caught:
        hardware.resumable(definition(**server), captured())
    assert str(caught.value) == f"the overlay's memory is of other hardware: {expected}"
    assert len(str(caught.value)) < 190, "Nova keeps 255 characters of a fault"


@pytest.mark.parametrize("name", ["hypervisor", "processors", "features", "timers", "topology", "architecture"])
def test_each_setting_counts(name):
    found = captured()
    with pytest.raises(OverlayRefusal, match=f"hardware: {name}: expected other"):
        hardware.resumable(definition(), replace(found, settings={**found.settings, name: "other"}))


def test_setting_that_this_version_does_not_know_counts():
    found = captured()
    with pytest.raises(OverlayRefusal, match="hardware: firmware: expected efi, but the server has none"):
        hardware.resumable(definition(), replace(found, settings={**found.settings, "firmware": "efi"}))


@pytest.mark.parametrize(
    "place",
    ["", "pci 0000:00:04.8", "pci 0001:00:04.0", "pci 0000:00:04.0' x='", "bus=0 type=usb", "pci 0000:00:24.0", "pci 0000:00:04.0\n"],
)
def test_place_that_is_none_on_the_bus_is_refused(place):
    found = captured()
    devices = ((found.devices[0][0], place), *found.devices[1:])
    with pytest.raises(OverlayRefusal, match="place of disk"):
        hardware.resumable(definition(), replace(found, devices=devices))


def test_device_of_another_bus_has_to_be_at_its_place():
    found = captured(drives=CDROM)
    assert hardware.resumable(definition(drives=CDROM), found)
    moved = tuple((kind, place.replace("unit=0", "unit=1")) for kind, place in found.devices)
    with pytest.raises(OverlayRefusal, match="place of disk: expected bus=0 controller=0"):
        hardware.resumable(definition(drives=CDROM), replace(found, devices=moved))


GOOD = json.loads(captured().pack())
CHANGES = [
    {"version": 2}, {"devices": [["disk"]]}, {"devices": [["disk", 4]]}, {"cpu": None}, {"cpu": "x\ny"}, {"cpu": "x" * 2000},
    {"settings": []}, {"memory_kib": "many"}, {"memory_kib": float("inf")}, {"features": 1},
]  # fmt: skip


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b"\xff", b"[" * 60_000, b" " * 70_000, *(json.dumps(GOOD | change).encode() for change in CHANGES)]
)
def test_malformed_description_is_refused(data):
    with pytest.raises(OverlayRefusal, match="the part hardware of the overlay is malformed"):
        hardware.parse(data)


# Save images


def image(length: int = 5000, magic: bytes = save_image.MAGIC, version: int = 2, kind: int = save_image.SPARSE) -> bytes:
    head = save_image.HEADER.pack(magic, version, length, 1, kind, 700)
    return head + b"<domain>of a stranger</domain>".ljust(length, b"s") + b"QEVM"


def test_definition_is_replaced_as_a_whole(tmp_path):
    file = tmp_path / "memory"
    file.write_bytes(image())
    save_image.define(file, "<domain/>")
    data = file.read_bytes()
    assert data[:92] == save_image.HEADER.pack(save_image.MAGIC, 2, 5000, 0, 6, 0)
    assert data[92:] == b"<domain/>".ljust(5000, b"\0") + b"QEVM"


def test_definition_without_room_is_refused_and_changes_nothing(tmp_path):
    file = tmp_path / "memory"
    file.write_bytes(image(length=9))
    with pytest.raises(OverlayRefusal, match="has room for a definition of 9 bytes: expected 10 bytes"):
        save_image.define(file, "<domain/>")
    assert file.read_bytes() == image(length=9)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"LibvirtQemudSave", image(magic=b"LibvirtQemudPart"), image(version=3), image(kind=0), image(length=0),
        image(length=(1 << 20) + 1), image()[: 92 + 5000],
    ],
)  # fmt: skip
def test_memory_that_is_no_save_image_is_refused(tmp_path, data):
    file = tmp_path / "memory"
    file.write_bytes(data)
    with pytest.raises(OverlayRefusal, match="expected libvirt's format sparse"):
        save_image.define(file, "<domain/>")
    assert file.read_bytes() == data

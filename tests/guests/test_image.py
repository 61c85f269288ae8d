"""The guest image, booted: what it takes from a config drive and from the metadata service, what it keeps, how it ends."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from emulated import PATIENCE_S, QEMU, Emulated, metadata_service
from oslo_utils.imageutils.format_inspector import detect_file_format

from atoll.guest import LEAST_MIB

pytestmark = pytest.mark.skipif(shutil.which(QEMU) is None, reason="QEMU is not installed")

UUID = "6e3e0c1e-7d5c-4a9c-8d59-1fd6e5e60aa1"
MARKS = '#!/bin/sh\necho "found: $(cat /disk/mark 2>/dev/null)"\necho "made by $(hostname)" >/disk/mark\n'


def meta_data(name: str, **more: object) -> str:
    return json.dumps({"uuid": UUID, "name": name, "hostname": f"{name}.novalocal", **more})


def drive(directory: Path, **files: str) -> Path:
    """A config drive as Nova makes it."""
    latest = directory / "files" / "openstack" / "latest"
    latest.mkdir(parents=True)
    for name, text in files.items():
        (latest / name).write_text(text)
    made = directory / "drive.iso"
    (directory / "files" / "openstack" / "latest" / "meta_data").rename(latest / "meta_data.json")
    subprocess.run(["genisoimage", "-quiet", "-V", "config-2", "-r", "-J", "-o", str(made), str(directory / "files")], check=True)
    return made


def test_glance_sees_a_raw_image(image):
    assert str(detect_file_format(image)) == "raw"
    assert image.stat().st_size < 30 * 2**20


def test_config_drive_and_what_stays_on_the_disk(image, tmp_path):
    """With the least memory that Glance is told of."""
    key = tmp_path / "key"
    subprocess.run(["dropbearkey", "-t", "ed25519", "-f", str(key)], check=True, capture_output=True)
    shown = subprocess.run(["dropbearkey", "-y", "-f", str(key)], check=True, capture_output=True, text=True).stdout
    public = next(line for line in shown.splitlines() if line.startswith("ssh-"))
    iso = drive(tmp_path, meta_data=meta_data("driven", public_keys={"mine": f"{public}\n"}), user_data=MARKS)
    options = ["-drive", f"file={iso},if=ide,media=cdrom,readonly=on"]
    with Emulated(tmp_path / "machine", image, *options, memory=LEAST_MIB) as guest:
        page = guest.await_page("<h1>driven</h1>")
        assert f"uuid: {UUID}\naddresses: 10.0.2.15" in page
        assert "told by: the config drive" in page
        guest.await_console("atoll-guest: ready driven 10.0.2.15 seconds=")
        guest.await_console("found: \n")
        words = ["dbclient", "-y", "-y", "-i", str(key), "-p", str(guest.ssh), "root@127.0.0.1", "cat /disk/mark; id -un"]
        said = subprocess.run(words, check=True, capture_output=True, text=True, timeout=PATIENCE_S).stdout
        assert said == "made by driven\nroot\n"
        guest.order("system_powerdown")
        guest.await_end()
        assert "power button: shutting down" in guest.console()
        assert "failed" not in guest.console()
    with Emulated(tmp_path / "machine", image, *options) as guest:
        guest.await_console("found: made by driven\n")


def test_metadata_service_and_interfaces_that_come_and_go(image, tmp_path):
    """With the disk on another bus, and nothing to be run."""
    files = {"/openstack/latest/meta_data.json": meta_data("served"), "/openstack/latest/user_data": "#cloud-config\n"}
    second = ["-netdev", "user,id=second,restrict=on,net=10.9.9.0/24"]
    with metadata_service(files) as network, Emulated(tmp_path / "machine", image, *second, network=network, bus="ide") as guest:
        assert "told by: the metadata service" in guest.await_page("<h1>served</h1>", "169.254.169.15")
        guest.await_console("atoll-guest: ready served 169.254.169.15 seconds=")
        guest.order("device_add", driver="virtio-net-pci", netdev="second", id="attached")
        assert "169.254.169.15" in guest.await_page("10.9.9.15")
        guest.order("device_del", id="attached")
        guest.order("system_reset")
        guest.await_console(r"(?s)ready served .*ready served ")
        assert "failed" not in guest.console()

"""The booted guest image: its use of a config drive and the metadata service, its persistent files, and its shutdown."""

import shutil
import subprocess

import pytest
from emulated import MARKS, PATIENCE_S, QEMU, UUID, Emulated, drive, meta_data, metadata_service
from oslo_utils.imageutils.format_inspector import detect_file_format

from atoll.guest import LEAST_MIB

pytestmark = pytest.mark.skipif(shutil.which(QEMU) is None, reason="QEMU is not installed")


def test_glance_sees_a_raw_image(image):
    assert str(detect_file_format(image)) == "raw"
    assert image.stat().st_size < 30 * 2**20


def test_config_drive_and_what_stays_on_the_disk(image, tmp_path):
    """The guest has the least memory that the image declares in Glance."""
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
    """The disk is on another bus, and there is no user script."""
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

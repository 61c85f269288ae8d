"""Servers that resume the memory of a captured guest instead of booting, by the commands and Nova's own API, and users' errors."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from deployment import until
from landscape import Guest, Landscape
from test_synthesis_guests import fault, left, openssl, raw_overlay, upload

pytestmark = pytest.mark.long

MARK = '#!/bin/sh\necho "made by $(hostname)" >/run/mark\necho marked\n'
READ = '#!/bin/sh\necho "mark: $(cat /run/mark)"\n'
MIB = 1 << 20


def _version() -> int:
    qemu = shutil.which("qemu-system-x86_64")
    told = subprocess.run([qemu, "--version"], check=True, capture_output=True, text=True).stdout if qemu else ""
    found = re.search(r"version (\d+)", told)
    return int(found[1]) if found else 0


@pytest.fixture(scope="module")
def new() -> None:
    if _version() < 9:
        pytest.skip("QEMU is older than 9.0, and does not write memory at fixed places")


@dataclass
class Warm:
    """A captured guest, its base, and its image in Glance."""

    directory: Path
    image: str
    key: str
    uptime: float

    @property
    def overlay(self) -> str:
        """The image, under the name that `raw_overlay` expects."""
        return self.image


def uptime(page: str) -> float:
    found = re.search(r"uptime: ([\d.]+)", page)
    assert found, page
    return float(found[1])


def mac(paris: Landscape, guest: Guest) -> str:
    return str(paris.api.expect("network", "GET", f"/v2.0/ports/{guest.port}")["port"]["mac_address"])


def capture(cloud, guest: Guest, target: Path) -> dict:
    """Capture a guest, which stops, and delete it."""
    made = json.loads(cloud.atoll("cloudlet", "capture", "paris", guest.id, target, "--json"))
    guest.await_status("SHUTOFF")
    guest.delete()
    return made


def keys(here: Path) -> tuple[Path, Path]:
    openssl("genpkey", "-algorithm", "ed25519", "-out", here / "key.pem")
    openssl("pkey", "-in", here / "key.pem", "-pubout", "-out", here / "public.pem")
    return here / "key.pem", here / "public.pem"


@pytest.fixture(scope="module")
def warm(new, cloud, paris, tmp_path_factory) -> Iterator[Warm]:
    """Capture a guest that has booted, and upload it as a public base with memory."""
    here = tmp_path_factory.mktemp("warm")
    key, _ = keys(here)
    guest = paris.boot("generic")
    guest.await_ready()
    _, address = paris.floating_ip(guest)
    seen = uptime(paris.await_page(address, "generic"))
    made = capture(cloud, guest, here / "files")
    assert made["machine"].startswith("pc-i440fx-")
    assert b"generic" not in (here / "files" / "memory").read_bytes()[:100_000], "the definition of the captured server is erased"
    cloud.atoll("cloudlet", "base", here / "base", "--capture", here / "files")
    image = upload(cloud, here / "base", "--name", "warm", "--key", key, "--visibility", "public")
    yield Warm(here, image["image"], image["properties"]["atoll_cloudlet_key"], seen)
    paris.api.call("image", "DELETE", f"/v2/images/{image['image']}")


def test_server_resumes_with_its_own_name_mac_and_address(paris, warm):
    before = left(paris)
    guest = paris.boot("resumed", image=warm.image)
    guest.await_console(rf"atoll-guest: resumed resumed {re.escape(guest.address)} ")
    assert "atoll-guest: ready" not in guest.console(), "the guest has booted"
    _, address = paris.floating_ip(guest)
    page = paris.await_page(address, "resumed")
    assert uptime(page) > warm.uptime
    assert f"uuid: {guest.id}" in page
    assert "/memory" not in str(list((paris.settings.data / "instances" / guest.id).iterdir()))
    guest.act(reboot={"type": "HARD"})
    guest.await_status("ACTIVE")
    guest.await_ready()
    guest.delete()
    after = left(paris)
    assert (after["instances"], after["work"], after["partial"]) == (before["instances"], [], [])


def test_two_servers_of_one_memory_are_two_servers(paris, warm):
    twins = [paris.boot(name, image=warm.image) for name in ("castor", "pollux")]
    assert len({mac(paris, twin) for twin in twins}) == 2
    for twin in twins:
        _, address = paris.floating_ip(twin)
        assert f"uuid: {twin.id}" in paris.await_page(address, twin.name)
    for twin in twins:
        twin.delete()


def test_application_in_memory_goes_on_in_a_server_from_its_overlay(cloud, paris, nice, warm, tmp_path):
    first = paris.boot("maker", image=warm.image, script=MARK)
    first.await_console("marked")
    capture(cloud, first, tmp_path / "files")
    words = ("--base", warm.directory / "base", "--capture", tmp_path / "files", "--key", warm.directory / "key.pem")
    cloud.atoll("cloudlet", "overlay", tmp_path / "overlay", *words)
    assert (tmp_path / "overlay").stat().st_size < 64 * MIB
    given = (tmp_path / "overlay", "--name", "app", "--trust", warm.directory / "public.pem", "--visibility", "public")
    app = upload(cloud, *given)
    second = paris.boot("heir", image=app["image"], script=READ)
    assert second.await_console("mark: .*").group(0).strip() == "mark: made by maker", "the mark is in memory alone"
    assert "atoll-guest: ready" not in second.console()
    second.act(rebuild={"imageRef": app["image"]})
    second.await_status("ACTIVE")
    assert second.await_console("mark: .*").group(0).strip() == "mark: made by maker"
    second.delete()
    far = nice.boot("far", image=app["image"], script=READ)
    assert far.await_console("mark: .*").group(0).strip() == "mark: made by maker", "the other site has fetched overlay and base"
    assert "atoll-guest: ready" not in far.console()
    far.delete()
    for each in (paris, nice):
        each.api.call("image", "DELETE", f"/v2/images/{app['image']}")


def test_refusals_are_one_line_and_leave_nothing(cloud, paris, warm, tmp_path):
    paris.boot("cached", image=warm.image).delete()
    told = fault(paris, warm.image, flavorRef="3")
    assert re.match(r"the overlay: the memory: \d+ MiB: expected that of a server with 2048 MiB of memory", told), told
    told = fault(paris, warm.image, config_drive=True)
    assert told.startswith("the overlay's memory is of other hardware: device: expected "), told
    private = upload(cloud, warm.directory / "base", "--name", "mine", "--key", _other(tmp_path), "--visibility", "private")
    told = fault(paris, private["image"])
    assert told.startswith("the overlay: its memory is signed by none of the keys whose memory this site resumes"), told
    paris.api.call("image", "DELETE", f"/v2/images/{private['image']}")


def _other(directory: Path) -> Path:
    return keys(directory)[0]


def test_device_state_that_qemu_refuses_ends_in_error(cloud, paris, warm, tmp_path):
    """Any key's owner can sign any bytes: QEMU reads them as the process of that server alone."""
    files = tmp_path / "files"
    subprocess.run(["cp", "-r", "--sparse=always", warm.directory / "files", files], check=True)
    with (files / "memory").open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(size - MIB)
        section = size - MIB + file.read().index(b"cpu_common")  # the first of these words begins the state of the CPU
        file.seek(section)
        file.write(b"cpu_stolen")
    cloud.atoll("cloudlet", "base", tmp_path / "base", "--capture", files)
    key, _ = keys(tmp_path)
    image = upload(cloud, tmp_path / "base", "--name", "hostile", "--key", key, "--visibility", "public")
    told = fault(paris, image["image"])
    assert told.startswith("QEMU can't resume the overlay's memory: "), told
    paris.api.call("image", "DELETE", f"/v2/images/{image['image']}")
    sound = paris.boot("sound", image=warm.image)
    sound.await_console("atoll-guest: resumed sound ")
    sound.delete()


def test_damaged_segment_ends_in_error(cloud, paris, warm, tmp_path):
    cloud.atoll("exec", "paris", "--", "openstack", "image", "save", "--file", tmp_path / "packed", warm.image)
    content = bytearray((tmp_path / "packed").read_bytes())
    content[-100] ^= 1
    image = raw_overlay(paris, bytes(content), warm, visibility="public")
    told = fault(paris, image)
    assert re.match(r"the overlay: segment \d+ of the overlay is damaged", told), told
    paris.api.call("image", "DELETE", f"/v2/images/{image}")


@pytest.mark.skipif(_version() >= 9, reason="QEMU writes memory at fixed places")
def test_older_qemu_is_one_clear_sentence(cloud, paris, image, tmp_path):
    files = tmp_path / "files"
    files.mkdir()
    subprocess.run(["cp", "--sparse=always", image, files / "disk"], check=True)
    with (files / "memory").open("wb") as file:
        file.truncate(513 * MIB)
    (files / "hardware").write_text('{"cpu": "EPYC", "machine": "pc-i440fx-10.0"}')
    cloud.atoll("cloudlet", "base", tmp_path / "base", "--capture", files)
    key, _ = keys(tmp_path)
    made = upload(cloud, tmp_path / "base", "--name", "warm", "--key", key, "--visibility", "public")
    told = fault(paris, made["image"])
    assert re.match(r"the overlay: this site's QEMU [\d.]+ and libvirt [\d.]+ resume no memory: expected 9.0 and 11.2", told), told
    assert "can't save memory at fixed places" in str(cloud.refused("cloudlet", "capture", "paris", "anything", tmp_path / "x"))
    until(lambda: not (tmp_path / "x").exists(), "nothing is left", 5)
    paris.api.call("image", "DELETE", f"/v2/images/{made['image']}")

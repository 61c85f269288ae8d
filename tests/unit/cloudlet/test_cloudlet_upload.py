"""Uploads to Glance: which image is made, that nothing is uploaded twice, and that nothing is left of a failure."""

import hashlib
import random
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from small_machines import PAGE, Machine, quiet, random_pages

from atoll.cloudlet import empty, image, upload
from atoll.cloudlet.keys import SigningKey
from atoll.cloudlet.upload import ImageRequest, Uploads
from atoll.errors import AtollError
from atoll.overlay_images import EMPTY

STRANGER = SigningKey(ed25519.Ed25519PrivateKey.from_private_bytes(b"s" * 32)).trusted
REQUEST = ImageRequest("app", {"visibility": "private", "atoll_keep": "everywhere"})
needs_qemu = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-utils is not installed")


class Glance:
    """A double of Glance: images by id, with the hashes of their data."""

    def __init__(self, project: str = "mine") -> None:
        self.images: dict[str, dict[str, Any]] = {}
        self.data: dict[str, bytes] = {}
        self.project = project
        self.fails: Exception | None = None

    def get(self, path, *, params):
        assert path == "/images"
        found = [each for each in self.images.values() if all(each.get(name) == value for name, value in params.items())]
        return SimpleNamespace(json=lambda: {"images": found})

    def post(self, path, *, json):
        made = f"image-{len(self.images)}"
        self.images[made] = {**json, "id": made, "status": "queued", "owner": self.project}
        return SimpleNamespace(json=lambda: self.images[made])

    def put(self, path, *, data, headers):
        assert headers == {"Content-Type": "application/octet-stream"}
        content = b"".join(data)
        assert len(content) == len(data)
        if self.fails:
            raise self.fails
        made = path.split("/")[2]
        self.data[made] = content
        self.images[made] |= {"status": "active", "os_hash_algo": "sha512", "os_hash_value": hashlib.sha512(content).hexdigest()}

    def delete(self, path):
        del self.images[path.split("/")[2]]


@pytest.fixture
def disk(tmp_path, key) -> Machine:
    pages = random_pages(random.Random(1), 40)
    machine = Machine(tmp_path, key, {"disk": b"".join(pages)})
    machine.guest(disk=b"".join([*pages[:20], *pages[:20], b"x" * PAGE]))
    machine.overlay()
    return machine


def overlay(machine: Machine, glance: Glance, *trusted) -> upload.Uploaded:
    return Uploads(glance, glance.project, quiet).overlay(machine.directory / "overlay", trusted or (machine.key.trusted,), REQUEST)


@needs_qemu
def test_base_is_a_bootable_image_with_its_digest(disk, tmp_path):
    glance, seen = Glance(), []
    made = Uploads(glance, "mine", lambda *step: seen.append(step)).base(disk.base, REQUEST)
    found = glance.images[made.id]
    assert (made.made, found["disk_format"], found["min_disk"], found["visibility"]) == (True, "qcow2", 1, "private")
    assert found["atoll_cloudlet_digest"] == image.describe(disk.base).digest.hex()
    assert (found["atoll_cloudlet_machine"], found["atoll_keep"]) == ("pc-q35-9.2", "everywhere")
    (tmp_path / "got").write_bytes(glance.data[made.id])
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", tmp_path / "got", tmp_path / "raw"], check=True)
    assert (tmp_path / "raw").read_bytes() == (disk.base / "disk").read_bytes()
    size = len(glance.data[made.id])
    assert seen[-1] == ("uploading", size, size)
    assert Uploads(glance, "mine", quiet).base(disk.base, REQUEST) == upload.Uploaded(made.id, made=False, properties=made.properties)


def test_overlay_has_its_base_and_the_key_that_signed_it(disk):
    glance = Glance()
    made = overlay(disk, glance, STRANGER, disk.key.trusted)
    found = glance.images[made.id]
    assert glance.data[made.id] == (disk.directory / "overlay").read_bytes()
    assert (found["disk_format"], found["container_format"], found["min_disk"]) == ("raw", "bare", 1)
    expected = {"atoll_cloudlet_base": image.describe(disk.base).digest.hex(), "atoll_cloudlet_key": disk.key.trusted.name}
    assert made.properties == expected
    assert expected.items() <= found.items()


def test_overlay_names_an_image_of_its_base(disk):
    glance = Glance()
    base = glance.post("/images", json={"atoll_cloudlet_digest": image.describe(disk.base).digest.hex()}).json()["id"]
    glance.images[base]["status"] = "active"
    assert overlay(disk, glance).properties["atoll_cloudlet_base_image"] == base


def test_nothing_is_uploaded_twice(disk):
    glance = Glance()
    first = overlay(disk, glance)
    assert overlay(disk, glance) == upload.Uploaded(first.id, made=False, properties=first.properties)
    glance.project = "another"
    assert overlay(disk, glance).made, "another project's image may be withdrawn"
    glance.images[first.id]["os_hash_value"] = "0" * 128
    glance.project = "mine"
    assert overlay(disk, glance).made, "an image of other data is another overlay"


@pytest.mark.parametrize("error", [OSError("cut"), KeyboardInterrupt()])
def test_image_whose_data_do_not_arrive_is_deleted(disk, error):
    glance = Glance()
    glance.fails = error
    with pytest.raises(type(error)):
        overlay(disk, glance)
    assert glance.images == {}


def test_overlay_of_a_key_that_is_not_trusted(disk):
    glance = Glance()
    with pytest.raises(AtollError, match="none of the trusted keys signed"):
        overlay(disk, glance, STRANGER)
    assert glance.images == {}


def test_damaged_overlay_is_not_uploaded(disk):
    path, glance = disk.directory / "overlay", Glance()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(AtollError, match="segment 0 of the overlay is damaged"):
        overlay(disk, glance)
    assert glance.images == {}


def test_damaged_base_is_not_uploaded(disk):
    with (disk.base / "disk").open("r+b") as file:
        file.write(b"damage")
    glance = Glance()
    with pytest.raises(AtollError, match="damaged at byte 0"):
        Uploads(glance, "mine", quiet).base(disk.base, REQUEST)
    assert glance.images == {}


def test_memory_without_its_hardware_is_refused(machine):
    glance = Glance()
    with pytest.raises(AtollError, match="disk, memory: expected disk alone, or disk, hardware and memory"):
        Uploads(glance, "mine", quiet).base(machine.base, REQUEST)
    machine.overlay()
    with pytest.raises(AtollError, match="disk, memory: expected disk alone"):
        overlay(machine, glance)
    assert glance.images == {}


@pytest.fixture
def warm(tmp_path, key) -> Machine:
    """Return a base and a guest with memory and hardware."""
    pages = random_pages(random.Random(1), 300)
    machine = Machine(tmp_path, key, {"disk": b"".join(pages[:9]), "memory": b"".join(pages), "hardware": b"{}"})
    machine.guest(disk=b"".join(pages[:8]), memory=b"".join(pages[::-1]), hardware=b"{}")
    machine.overlay()
    return machine


def test_base_with_memory_is_packed_signed_and_an_overlay_too(warm):
    glance = Glance()
    made = Uploads(glance, "mine", quiet).base(warm.base, REQUEST, warm.key)
    found = glance.images[made.id]
    digest = image.describe(warm.base).digest.hex()
    expected = {
        "atoll_cloudlet_base": EMPTY, "atoll_cloudlet_key": warm.key.trusted.name, "atoll_cloudlet_digest": digest,
        "atoll_cloudlet_machine": "pc-q35-9.2", "atoll_cloudlet_memory": "1", "hw_machine_type": "pc-q35-9.2",
    }  # fmt: skip
    assert made.properties == expected
    assert expected.items() <= found.items()
    assert (found["disk_format"], found["min_disk"]) == ("raw", 1)
    empty.make_empty(warm.directory / "empty")
    warm.apply(glance.data[made.id], warm.directory / "launch", warm.directory / "empty")
    assert image.describe(warm.directory / "launch").digest.hex() == digest
    assert not Uploads(glance, "mine", quiet).base(warm.base, REQUEST, warm.key).made


def test_base_with_memory_needs_a_key(warm):
    glance = Glance()
    with pytest.raises(AtollError, match="has memory: expected a key that signs it") as caught:
        Uploads(glance, "mine", quiet).base(warm.base, REQUEST)
    assert (caught.value.kind.code, glance.images) == ("cloudlet.key", {})


def test_damaged_base_with_memory_is_not_uploaded(warm):
    with (warm.base / "memory").open("r+b") as file:
        file.write(b"damage")
    glance = Glance()
    with pytest.raises(AtollError, match="damaged at byte 0"):
        Uploads(glance, "mine", quiet).base(warm.base, REQUEST, warm.key)
    assert glance.images == {}


def test_overlay_with_memory_names_the_machine_type_and_the_memory(warm):
    made = overlay(warm, Glance())
    assert (made.properties["hw_machine_type"], made.properties["atoll_cloudlet_memory"]) == ("pc-q35-9.2", "1")


def test_qemu_img_that_is_missing(disk, monkeypatch):
    monkeypatch.setenv("PATH", str(Path("/nowhere")))
    with pytest.raises(AtollError, match="qemu-img is missing") as caught:
        Uploads(Glance(), "mine", quiet).base(disk.base, REQUEST)
    assert caught.value.hint == "`apt install qemu-utils`"

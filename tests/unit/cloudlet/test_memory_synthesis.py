"""Overlays with memory: what is made of them, and each refusal before anything is made."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from small_machines import CPU, PAGE, TYPE, Machine, quiet, random_pages

from atoll.cloudlet import empty, image, resume, synthesis
from atoll.cloudlet.captured import read_captured
from atoll.cloudlet.keys import SigningKey
from atoll.errors import AtollError
from atoll.overlay_images import EMPTY

LIMIT = 1 << 26
BASE, LAUNCH, OTHER = "b" * 64, "1" * 64, "2" * 64
MIB = 1 << 20
STRANGER = SigningKey(ed25519.Ed25519PrivateKey.from_private_bytes(b"s" * 32)).trusted


@dataclass
class Site:
    """A cache with a base of a disk and memory, packed, and an overlay of it."""

    directory: Path
    machine: Machine

    @property
    def digest(self) -> str:
        return image.describe(self.machine.base).digest.hex()

    @property
    def key(self) -> str:
        return self.machine.key.trusted.name

    def names(self) -> list[str]:
        cache = self.directory / "cache"
        return sorted(path.name for path in cache.iterdir() if path.name != "lock") if cache.is_dir() else []

    def keep(self, **more: object) -> None:
        given = {"cache": str(self.directory / "cache"), "limit": LIMIT, "name": BASE, "digest": self.digest, "machine": TYPE}
        synthesis.run({**given, "disk": str(self.directory / "packed"), "keys": [self.key], **more})

    def task(self, **resumed: object) -> dict[str, Any]:
        common = {"cache": str(self.directory / "cache"), "limit": LIMIT, "base": BASE, "overlay": str(self.directory / "overlay")}
        files = {name: str(self.directory / f"made.{name}") for name in ("memory", "hardware")}
        wanted = {**files, "cpu": CPU, "machine": TYPE, "mib": 1, "keys": None, **resumed}
        more = {"title": "the overlay", "keys": [(self.key, LAUNCH)], "max_bytes": LIMIT}
        return {**common, **more, "target": str(self.directory / "made.disk"), "resume": wanted}

    def made(self) -> list[str]:
        return sorted(path.name for path in self.directory.glob("made.*"))

    def refused(self, code: str, expected: str, **resumed: object) -> None:
        """Run a task that must fail and leave nothing new, with and without a launch image in the cache."""
        for _ in range(2):
            before = self.names()
            with pytest.raises(AtollError, match=expected) as caught:
                synthesis.run(self.task(**resumed))
            assert (caught.value.kind.code, "\n" in caught.value.message) == (code, False)
            assert (self.names(), self.made()) == (before, [])
            synthesis.run(self.task())
            for name in self.made():
                (self.directory / name).unlink()


@pytest.fixture
def site(tmp_path, key) -> Site:
    seeded = random.Random(1)
    disk, memory = random_pages(seeded, 20), [bytes(PAGE)] * 200 + random_pages(seeded, 60)
    machine = Machine(tmp_path, key, {"disk": b"".join(disk), "memory": b"".join(memory), "hardware": b"{}"})
    disk[3], memory[7], memory[9] = seeded.randbytes(PAGE), disk[5], seeded.randbytes(PAGE)
    machine.guest(disk=b"".join(disk), memory=b"".join(memory), hardware=b'{"a": 1}')
    machine.overlay()
    empty.pack(machine.base, tmp_path / "packed", key, quiet)
    return Site(tmp_path, machine)


def test_empty_base_is_the_same_everywhere(tmp_path):
    assert empty.make_empty(tmp_path / "empty").hex() == EMPTY


def test_packed_base_becomes_the_base(site):
    site.keep()
    with image.opened(site.directory / "cache" / BASE) as kept:
        assert kept.description == image.describe(site.machine.base)
    for name in ("disk", "memory", "hardware"):
        assert (site.directory / "cache" / BASE / name).read_bytes() == (site.machine.base / name).read_bytes()
    site.keep(disk="/nowhere")  # the cache has it


def test_disk_memory_and_hardware_are_made_for_each_server(site):
    site.keep()
    for overlay in (str(site.directory / "overlay"), ""):
        assert synthesis.run(site.task() | {"overlay": overlay}) == site.key
        for name in ("disk", "memory", "hardware"):
            made = site.directory / f"made.{name}"
            assert made.read_bytes() == site.machine.content(name)
            made.unlink()


def test_packed_base_starts_a_server_over_the_empty_base(site):
    keep = {"cache": str(site.directory / "cache"), "limit": LIMIT, "name": OTHER, "digest": EMPTY, "machine": "", "disk": ""}
    synthesis.run(keep)
    assert synthesis.run(site.task() | {"overlay": str(site.directory / "packed"), "base": OTHER}) == site.key
    assert (site.directory / "made.memory").read_bytes() == (site.machine.base / "memory").read_bytes()


def test_packed_base_of_another_digest_is_refused(site):
    with pytest.raises(AtollError, match=r"content is the base .* but its property names 2222") as caught:
        site.keep(digest=OTHER)
    assert (caught.value.kind.code, site.names()) == ("cloudlet.base", [])


def test_packed_base_that_its_named_key_has_not_signed_is_refused(site):
    with pytest.raises(AtollError, match="none of the trusted keys signed"):
        site.keep(keys=[STRANGER.name])
    assert site.names() == []


def test_packed_base_with_a_damaged_segment_is_refused_and_leaves_nothing(site):
    data = bytearray((site.directory / "packed").read_bytes())
    data[-50] ^= 1
    (site.directory / "packed").write_bytes(data)
    with pytest.raises(AtollError, match=r"segment .* is damaged"):
        site.keep()
    assert site.names() == []


def test_overlay_of_another_base_is_no_packed_base(site):
    digest = site.machine.made.result.digest.hex()
    with pytest.raises(AtollError, match="was made for the base"):
        site.keep(disk=str(site.directory / "overlay"), digest=digest)
    assert site.names() == []


@pytest.mark.parametrize(
    ("code", "expected", "resumed"),
    [
        ("cloudlet.cpu", "memory of the CPU model Haswell-v1, but the server's is EPYC", {"cpu": "EPYC"}),
        ("cloudlet.cpu", "memory of the machine type pc-q35-9.2, but the server's is pc-q35-10.0", {"machine": "pc-q35-10.0"}),
        ("cloudlet.invalid", "the memory: 1 MiB: expected that of a server with 2 MiB of memory", {"mib": 2}),
        ("cloudlet.invalid", "this site's QEMU 7.2 resumes no memory", {"refused": "this site's QEMU 7.2 resumes no memory"}),
        ("cloudlet.untrusted", "none of the keys whose memory this site resumes", {"keys": []}),
        ("cloudlet.untrusted", "none of the keys whose memory this site resumes", {"keys": [STRANGER.name]}),
    ],
)
def test_memory_that_the_server_can_not_resume_is_refused(site, code, expected, resumed):
    site.keep()
    site.refused(code, expected, **resumed)


def test_memory_much_larger_than_the_server_s_is_refused(site, monkeypatch):
    site.keep()
    monkeypatch.setattr(resume, "MEMORY_SLACK_BYTES", 0)
    with pytest.raises(AtollError, match="the memory: 1 MiB: expected that of a server with 1 MiB"):
        synthesis.run(site.task())
    assert (site.names(), site.made()) == ([BASE], [])


def test_hardware_larger_than_its_limit_is_refused(site, monkeypatch):
    site.keep()
    monkeypatch.setattr(resume, "HARDWARE_BYTES", 4)
    with pytest.raises(AtollError, match="the part hardware has 8 bytes: expected at most 4"):
        synthesis.run(site.task())
    assert (site.names(), site.made()) == ([BASE], [])


def test_memory_of_a_listed_key_is_made(site):
    site.keep()
    assert synthesis.run(site.task(keys=[STRANGER.name, site.key])) == site.key
    assert site.made() == ["made.disk", "made.hardware", "made.memory"]


def test_task_without_conditions_makes_nothing_of_memory(site):
    site.keep()
    with pytest.raises(AtollError, match="the image has memory: expected a disk alone"):
        synthesis.run(site.task() | {"resume": None})
    assert (site.names(), site.made()) == ([BASE], [])


def test_damaged_segment_of_memory_is_refused_before_it_is_a_file(site):
    site.keep()
    data = bytearray((site.directory / "overlay").read_bytes())
    data[-50] ^= 1
    (site.directory / "overlay").write_bytes(data)
    with pytest.raises(AtollError, match=r"segment .* is damaged"):
        synthesis.run(site.task())
    assert (site.names(), site.made()) == ([BASE], [])


def test_captured_files_name_their_machine(tmp_path):
    (tmp_path / "hardware").write_text('{"cpu": "EPYC", "machine": "pc-i440fx-10.0"}')
    found = read_captured(tmp_path)
    assert (found.cpu, found.machine) == ("EPYC", "pc-i440fx-10.0")
    assert dict(found.parts) == {name: tmp_path / name for name in ("disk", "hardware", "memory")}


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"cpu": 1, "machine": "pc"}', '{"cpu": "", "machine": "pc"}', "[" * 9000])
def test_directory_that_is_no_capture(tmp_path, text):
    if text is not None:
        (tmp_path / "hardware").write_text(text)
    with pytest.raises(AtollError, match="this is not a captured guest"):
        read_captured(tmp_path)

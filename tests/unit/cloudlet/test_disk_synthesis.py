"""The program that makes a server's disk: its cache by names, its bounds, and what it leaves of hostile or unlucky tasks."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from small_machines import PAGE, Machine, random_pages

from atoll.cloudlet import header, image, synthesis
from atoll.cloudlet.description import ImageDescription, Part
from atoll.cloudlet.header import Entry
from atoll.cloudlet.keys import SigningKey
from atoll.errors import AtollError

LIMIT = 1 << 24
BASE, LAUNCH, OTHER = "b" * 64, "1" * 64, "2" * 64
STRANGER = SigningKey(ed25519.Ed25519PrivateKey.from_private_bytes(b"s" * 32))


class Site:
    """A cache, a base of 40 pages as a raw disk, and an overlay of it."""

    def __init__(self, directory: Path, machine: Machine) -> None:
        self.directory, self.machine = directory, machine
        self.cache = directory / "cache"
        self.raw = directory / "base.disk"
        self.digest = image.describe(machine.base).digest.hex()
        self.overlay = directory / "overlay"
        self.overlay.write_bytes(machine.overlay())

    def keep(self, **more: object) -> None:
        given = {"cache": str(self.cache), "limit": LIMIT, "name": BASE, "digest": self.digest, "machine": "pc-q35-9.2"}
        synthesis.run({**given, "disk": str(self.raw), **more})

    def task(self, **more: object) -> dict[str, Any]:
        keys = [(self.machine.key.trusted.name, LAUNCH)]
        given = {"cache": str(self.cache), "limit": LIMIT, "base": BASE, "overlay": str(self.overlay), "title": "the overlay", "keys": keys}
        return {**given, "max_bytes": LIMIT, "target": str(self.directory / "disk"), **more}

    def names(self) -> list[str]:
        return sorted(path.name for path in self.cache.iterdir() if path.name != "lock")

    def refused(self, expected: str, **more: object) -> None:
        """Run a task that must fail and leave nothing but the base."""
        before = self.names()
        with pytest.raises(AtollError, match=expected) as caught:
            synthesis.run(self.task(**more))
        assert "\n" not in caught.value.message
        assert self.names() == before
        assert not (self.directory / "disk").exists()


@pytest.fixture
def site(tmp_path, key) -> Site:
    seeded = random.Random(1)
    pages = random_pages(seeded, 40)
    machine = Machine(tmp_path, key, {"disk": b"".join(pages)})
    pages[3], pages[5], pages[7] = seeded.randbytes(PAGE), bytes(PAGE), pages[0]
    machine.guest(disk=b"".join([*pages, seeded.randbytes(PAGE)]))
    return Site(tmp_path, machine)


def test_disk_from_base_and_overlay(site):
    site.keep()
    assert synthesis.run(site.task()) == site.machine.key.trusted.name
    assert (site.directory / "disk").read_bytes() == site.machine.content("disk")
    assert site.names() == [LAUNCH, BASE]


def test_second_disk_needs_no_overlay(site):
    site.keep()
    synthesis.run(site.task())
    (site.directory / "disk").unlink()
    assert synthesis.run(site.task(overlay="")) == site.machine.key.trusted.name
    assert (site.directory / "disk").read_bytes() == site.machine.content("disk")


def test_launch_image_of_another_name_is_not_used(site):
    """Names are what the caller has derived from what its user can read: the digest of a result leads to nothing."""
    site.keep()
    synthesis.run(site.task())
    keys = [(site.machine.key.trusted.name, OTHER)]
    (site.directory / "disk").unlink()
    assert synthesis.run(site.task(overlay="", keys=keys)) is None
    assert synthesis.run(site.task(keys=keys, base=OTHER)) is None
    assert site.names() == [LAUNCH, BASE]


def test_launch_image_of_another_key_is_not_used(site):
    site.keep()
    synthesis.run(site.task())
    (site.directory / "disk").unlink()
    site.refused("none of the trusted keys signed this overlay", keys=[(STRANGER.trusted.name, OTHER)])
    assert synthesis.run(site.task(keys=[(STRANGER.trusted.name, OTHER), *site.task()["keys"]])) == site.machine.key.trusted.name


def test_overlay_is_opened_once_whichever_key_has_signed_it(site, monkeypatch):
    site.keep()
    seen: list[str] = []
    open_source = synthesis.opened
    monkeypatch.setattr(synthesis, "opened", lambda place, trusted: seen.append(place) or open_source(place, trusted))
    keys = [(STRANGER.trusted.name, OTHER), *site.task()["keys"], ("never parsed", OTHER)]
    assert synthesis.run(site.task(keys=keys)) == site.machine.key.trusted.name
    assert seen == [str(site.overlay)]


def test_base_with_another_digest_is_not_kept(site):
    with pytest.raises(AtollError, match=f"content is the base {site.digest[:16]}, but its property names {OTHER[:16]}") as caught:
        site.keep(digest=OTHER)
    assert caught.value.kind.code == "cloudlet.base"
    assert site.names() == []
    with pytest.raises(AtollError, match="content is the base"):
        site.keep(machine="another")


def test_base_larger_than_the_limit_is_not_read(site):
    with site.raw.open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(AtollError, match="the base's disk: 1048576 MiB: expected at most 16 MiB"):
        site.keep()
    assert not site.cache.exists() or site.names() == []


def test_overlay_of_another_base(site):
    site.keep()
    site.machine.base.rename(site.directory / "old")
    other = Machine(site.directory, site.machine.key, {"disk": b"x" * PAGE})
    other.guest(disk=b"y" * PAGE)
    site.overlay.write_bytes(other.overlay())
    site.refused("the overlay was made for the base")


def test_flavor_with_a_smaller_disk(site):
    site.keep()
    site.refused("the overlay: the disk: 1 MiB: expected at most 0", max_bytes=PAGE)
    synthesis.run(site.task())
    (site.directory / "disk").unlink()
    site.refused("the overlay: the disk: 1 MiB: expected at most 0", max_bytes=PAGE)  # the launch image is in the cache


def signed(site: Site, result: ImageDescription, entries: list[Entry]) -> None:
    """Replace the overlay by one that its maker has signed, whatever it says."""
    site.overlay.write_bytes(header.write_head(bytes.fromhex(site.digest), result, entries, site.machine.key) + b"x" * 100)


def test_overlay_that_claims_a_giant_disk(site):
    site.keep()
    signed(site, ImageDescription((Part("disk", 16 << 40, bytes(32)),)), [])
    site.refused("the disk: 16777216 MiB: expected at most 16")


def test_overlay_with_more_segments_than_pages(site):
    site.keep()
    signed(site, ImageDescription((Part("disk", PAGE, bytes(32)),)), [Entry(100, bytes(32))] * 2)
    site.refused("more segments than its result has pages")


@pytest.mark.parametrize("names", [("memory", "disk"), ("device",), ("disk", "x")])
def test_overlay_of_more_than_a_disk(site, names):
    site.keep()
    parts = tuple(Part(name, PAGE, bytes(32)) for name in sorted(names))
    signed(site, ImageDescription(parts, "Haswell-v1" if "memory" in names else ""), [])
    site.refused("expected disk, or disk, hardware and memory")


@pytest.mark.parametrize("place", [0, 100, 200, -100, -1])
def test_damaged_overlay_leaves_nothing(site, place):
    site.keep()
    data = bytearray(site.overlay.read_bytes())
    data[place] ^= 1
    site.overlay.write_bytes(data)
    site.refused("overlay")


@pytest.mark.parametrize("length", [0, 50, 400, 5000])
def test_overlay_that_ends_early_leaves_nothing(site, length):
    site.keep()
    site.overlay.write_bytes(site.overlay.read_bytes()[:length])
    site.refused("ends after")


def test_half_made_image_is_not_continued(site):
    """Otherwise the header of one overlay could go on with the pages of another."""
    site.keep()
    partial = site.cache / f".{LAUNCH}.partial"
    partial.mkdir()
    (partial / "disk").write_bytes(b"somebody else's")
    synthesis.run(site.task())
    assert (site.directory / "disk").read_bytes() == site.machine.content("disk")
    assert not partial.exists()


def test_file_system_that_becomes_full(site, monkeypatch):
    site.keep()
    usage = synthesis.shutil.disk_usage
    left = iter([LIMIT * 100, 10])
    monkeypatch.setattr(synthesis.shutil, "disk_usage", lambda path: usage(path)._replace(free=next(left)))
    site.refused("too little space for the disk: 0 MiB are free: expected 95")


def test_launch_image_that_leaves_before_it_is_copied(site, monkeypatch):
    """Another process may need its room; the caller tries again."""
    site.keep()
    apply = synthesis.apply

    def lose(*arguments: Any) -> None:
        apply(*arguments)
        synthesis.shutil.rmtree(site.cache / LAUNCH)

    monkeypatch.setattr(synthesis, "apply", lose)
    assert synthesis.run(site.task()) is None


def test_overlay_that_needs_too_much_memory_leaves_nothing(site, monkeypatch):
    site.keep()

    def grow(_source: object, _header: object, _base: object, target: Path, _report: object) -> None:
        target.with_name(f".{target.name}.partial").mkdir()
        raise MemoryError

    monkeypatch.setattr(synthesis, "apply", grow)
    with pytest.raises(MemoryError):
        synthesis.run(site.task())
    assert site.names() == [BASE]


def test_cache_that_is_too_small_keeps_no_launch_image(site):
    site.keep()
    with pytest.raises(AtollError, match="does not fit into a cache"):
        synthesis.run(site.task(limit=PAGE))
    assert site.names() == [BASE]


def test_least_recently_used_leaves(site):
    site.keep()
    synthesis.run(site.task())
    size = sum(synthesis.occupied(site.cache / name) for name in (BASE, LAUNCH))
    os.utime(site.cache / LAUNCH / "image", ns=(1, 1))
    with site.raw.open("r+b") as file:
        file.write(b"another")
    (site.directory / "disk").unlink()
    with pytest.raises(AtollError, match="content is the base"):
        site.keep(name=OTHER, limit=size)
    assert site.names() == [BASE]


def test_copy_keeps_holes(tmp_path):
    with (tmp_path / "source").open("wb") as file:
        file.truncate(1 << 22)
        file.seek(1 << 21)
        file.write(b"data")
    with (tmp_path / "source").open("rb") as source, (tmp_path / "target").open("xb") as target:
        synthesis.copy_sparse(source.fileno(), target.fileno())
    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()
    assert (tmp_path / "target").stat().st_blocks * 512 < 1 << 20


def ask(task: dict[str, Any], code: str = "") -> dict[str, dict[str, str] | str | None]:
    command = [sys.executable, *(["-c", code] if code else ["-m", "atoll.cloudlet.synthesis"])]
    done = subprocess.run(command, input=json.dumps(task), capture_output=True, text=True, check=True, timeout=100)
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_as_a_program(site):
    site.keep()
    assert ask(site.task()) == {"key": site.machine.key.trusted.name}
    site.overlay.write_bytes(b"x" * 500)
    answer = ask(site.task(keys=[(STRANGER.trusted.name, OTHER)], target=str(site.directory / "second")))
    assert answer == {"error": {"code": "cloudlet.invalid", "message": "the overlay: this is not an overlay"}}


RUN = "import resource\nfrom atoll.cloudlet import synthesis\nsynthesis.run = lambda task: {}\nsynthesis.main()\n"


def test_memory_and_processor_time_are_bounded():
    limits = "str([resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_CORE)])"
    assert ask({}, RUN.replace("{}", limits)) == {"key": str([3 << 30, 1800, 0])}
    answer = ask({}, RUN.replace("{}", "bytes(4 << 30)"))
    assert answer == {"error": {"code": "cloudlet.invalid", "message": "the synthesis needs more than the allowed 3 GiB of memory"}}


def test_end_of_the_processor_time_is_told():
    """SIGKILL would leave no reason, and the kernel sends it at the hard limit."""
    code = RUN.replace("synthesis.run", "synthesis.PROCESSOR_S = 1\nsynthesis.run").replace("{}", "[None for _ in iter(int, 1)]")
    done = subprocess.run([sys.executable, "-c", code], input="{}", capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == -signal.SIGXCPU

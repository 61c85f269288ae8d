"""Overlays of real guests in QEMU without OpenStack: of a disk, which boots elsewhere, and of memory, which resumes without a boot."""

import re
import shutil
import time
from io import BytesIO
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from deployment import until
from emulated import MARKS, PATIENCE_S, QEMU, Emulated, ask, drive, meta_data

from atoll.cloudlet import apply, base, encode, header, inspection, source
from atoll.cloudlet.keys import SigningKey
from atoll.cloudlet.workers import Workers

pytestmark = pytest.mark.skipif(shutil.which(QEMU) is None, reason="QEMU is not installed")

KEY = SigningKey(ed25519.Ed25519PrivateKey.from_private_bytes(b"k" * 32))
CPU = "qemu64"
MEMORY_MIB = 128


def quiet(_step: str, _done: int, _total: int) -> None:
    """Ignore reports of progress."""


def synthesise(directory: Path, parts: dict[str, Path]) -> Path:
    """Make an overlay of a guest, and the launch image of that and the base; return the image's directory."""
    with Workers(1) as workers:
        made = encode.make_overlay(encode.Task(directory / "base", parts, directory / "overlay"), KEY, workers, quiet)
    for act in ("verify", "apply"):
        with source.opened(str(directory / "overlay"), BytesIO()) as opened:
            found = header.read_header(opened.read, [KEY.trusted], opened.name)
            if act == "verify":
                inspection.check_overlay(opened, found, quiet)
            else:
                apply.apply(opened, found, directory / "base", directory / "launch", quiet)
    assert made.length < sum(path.stat().st_blocks * 512 for path in parts.values()) / 4
    for name, path in parts.items():
        assert (directory / "launch" / name).read_bytes() == path.read_bytes()
    return directory / "launch"


def shared_memory(file: Path) -> list[str]:
    """Return options of QEMU that keep the guest's memory in a file, each page at its place."""
    return [
        "-object", f"memory-backend-file,id=ram,size={MEMORY_MIB}M,mem-path={file},share=on",
        "-machine", "pc,memory-backend=ram", "-cpu", CPU,
    ]  # fmt: skip


def capture(directory: Path, memory: Path, target: Path) -> dict[str, Path]:
    """Stop a guest, and copy its disk, its memory and the state of its devices.

    QEMU has had the capability `x-ignore-shared` since 4.0: memory that is a shared file is not written into the stream of a migration.
    The stream then holds the devices alone.
    """
    target.mkdir()
    parts = {name: target / name for name in ("disk", "memory", "device")}
    ask(directory / "monitor", "stop")
    ask(directory / "monitor", "migrate-set-capabilities", capabilities=[{"capability": "x-ignore-shared", "state": True}])
    ask(directory / "monitor", "migrate", uri=f"exec:cat > {parts['device']}")
    until(lambda: ask(directory / "monitor", "query-migrate").get("status") == "completed", "the state of the devices", PATIENCE_S)
    shutil.copyfile(memory, parts["memory"])
    shutil.copyfile(directory / "disk.img", parts["disk"])
    return parts


def uptime(page: str) -> float:
    found = re.search(r"uptime: ([\d.]+)", page)
    assert found, page
    return float(found[1])


def test_disk_overlay_boots_elsewhere(image, tmp_path):
    base.make_base({"disk": image}, tmp_path / "base", "", "", quiet)
    iso = drive(tmp_path, meta_data=meta_data("driven"), user_data=MARKS)
    options = ["-drive", f"file={iso},if=ide,media=cdrom,readonly=on"]
    with Emulated(tmp_path / "machine", image, *options) as guest:
        guest.await_console("found: \n")
        guest.await_console("atoll-guest: ready")
        guest.order("system_powerdown")
        guest.await_end()
    launch = synthesise(tmp_path, {"disk": tmp_path / "machine" / "disk.img"})
    with Emulated(tmp_path / "elsewhere", launch / "disk", *options) as guest:
        guest.await_console("found: made by driven\n")


def test_memory_overlay_resumes_without_a_boot(image, tmp_path):
    machine, memory = tmp_path / "machine", tmp_path / "machine.memory"
    with Emulated(machine, image, *shared_memory(memory), memory=MEMORY_MIB) as guest:
        guest.await_page("uptime: ")
        parts = capture(machine, memory, tmp_path / "old")
        base.make_base(parts, tmp_path / "base", CPU, "pc", quiet)
        ask(machine / "monitor", "cont")
        began = time.monotonic()
        until(lambda: uptime(guest.await_page("uptime: ")) and time.monotonic() > began + 3, "some activity", PATIENCE_S)
        seen = uptime(guest.await_page("uptime: "))
        changed = capture(machine, memory, tmp_path / "new")
    launch = synthesise(tmp_path, changed)
    elsewhere = tmp_path / "elsewhere"
    options = [*shared_memory(launch / "memory"), "-incoming", "defer"]
    with Emulated(elsewhere, launch / "disk", *options, memory=MEMORY_MIB) as guest:
        until((elsewhere / "monitor").exists, "QEMU's monitor", PATIENCE_S)
        ask(elsewhere / "monitor", "migrate-set-capabilities", capabilities=[{"capability": "x-ignore-shared", "state": True}])
        ask(elsewhere / "monitor", "migrate-incoming", uri=f"exec:cat {launch / 'device'}")
        until(
            lambda: ask(elsewhere / "monitor", "query-status")["status"] in {"paused", "postmigrate", "running"},
            "the guest's state",
            PATIENCE_S,
        )
        ask(elsewhere / "monitor", "cont")
        assert uptime(guest.await_page("uptime: ")) >= seen
        assert "atoll-guest: ready" not in guest.console(), "the guest has booted"

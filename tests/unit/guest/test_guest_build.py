import os
import stat
from contextlib import contextmanager

import pytest

from atoll.errors import AtollError
from atoll.guest import disk, image, initramfs, kernel, programs
from atoll.guest.image import build


def silent(_text: str) -> None:
    pass


@pytest.fixture
def tools(monkeypatch, tmp_path):
    """Simulate a machine with all programs, a kernel package and tiny disks; return the messages of the build."""
    package = kernel.Package(tmp_path / "linux-image-6.1.0-1-cloud-amd64_6.1-1_amd64.deb")

    @contextmanager
    def opened(_self):
        yield kernel.GuestKernel(tmp_path / "vmlinuz", tmp_path / "6.1.0-1-cloud-amd64")

    monkeypatch.setattr(programs, "check", lambda _packages=None: None)
    monkeypatch.setattr(image, "find", lambda _given, _cache, _say: package)
    monkeypatch.setattr(kernel.Package, "opened", opened)
    monkeypatch.setattr(initramfs, "write", lambda _kernel, _tree, target: target.write_bytes(b"initramfs"))
    monkeypatch.setattr(disk, "write", lambda _kernel, _initramfs, target: target.write_bytes(b"disk"))
    said: list[str] = []
    return said


def test_an_image_is_made_once(tools, tmp_path):
    first = build(tmp_path, None, tools.append)
    second = build(tmp_path, None, tools.append)
    assert (first.made, second.made) == (True, False)
    assert first.path == second.path
    assert first.path.read_bytes() == b"disk"
    assert tools == ["making the guest image with linux-image-6.1.0-1-cloud-amd64_6.1-1_amd64"]


def test_another_script_makes_another_image(tools, tmp_path, monkeypatch):
    first = build(tmp_path, None, silent)
    changed = tmp_path / "changed"
    changed.write_text("another")
    parts = initramfs.parts()
    monkeypatch.setattr(initramfs, "parts", lambda: parts | {"init": changed})
    assert build(tmp_path, None, silent).path != first.path


def test_nothing_half_made_is_left(tools, tmp_path, monkeypatch):
    def fail(_kernel, _initramfs, target):
        target.write_bytes(b"half")
        raise AtollError("image.failed", "syslinux failed")

    with monkeypatch.context() as broken, pytest.raises(AtollError, match="syslinux failed"):
        broken.setattr(disk, "write", fail)
        build(tmp_path, None, silent)
    assert list((tmp_path / "guest").iterdir()) == []
    (tmp_path / "guest" / ".made-killed").mkdir()
    build(tmp_path, None, silent)
    assert [path.suffix for path in (tmp_path / "guest").iterdir()] == [".img"]


def test_a_copy_has_the_permissions_that_its_owner_wants(tmp_path):
    (tmp_path / "made").write_bytes(b"disk")
    target = tmp_path / "guest.img"
    target.write_bytes(b"what was there before")
    image.copy(tmp_path / "made", target, 0o027)
    assert target.read_bytes() == b"disk"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_copy_that_can_not_be_written(tmp_path):
    (tmp_path / "made").write_bytes(b"disk")
    with pytest.raises(AtollError, match=r"nowhere/guest.img can't be written: no such file"):
        image.copy(tmp_path / "made", tmp_path / "nowhere" / "guest.img", 0o022)


def test_missing_packages_are_named_together(tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "_SYSTEM", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AtollError) as caught:
        build(tmp_path / "cache", None, silent)
    assert caught.value.kind.code == "image.requirement"
    assert caught.value.message == "the guest image can't be built without Debian's busybox-static and cpio and mtools and syslinux"
    assert caught.value.hint == "`sudo apt-get install --no-install-recommends busybox-static cpio mtools syslinux`"
    assert not (tmp_path / "cache").exists()


def test_a_busybox_that_lacks_something(tmp_path, monkeypatch):
    for program in programs.TOOLS:
        (tmp_path / program).write_text("#!/bin/sh\necho sh\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AtollError, match=r"without Debian's busybox-static$"):
        programs.check()


def test_a_program_that_fails_says_why(tmp_path):
    with pytest.raises(AtollError, match=r"sh failed: no space$"):
        programs.run(["sh", "-c", "echo trying >&2; echo no space >&2; exit 3"])
    (tmp_path / "broken").write_bytes(b"\x7fELF")
    (tmp_path / "broken").chmod(0o755)
    with pytest.raises(AtollError, match="can't be run"):
        programs.run([str(tmp_path / "broken")])


def test_libraries_of_a_program():
    found = programs.libraries(programs.find("sh") or pytest.fail("no sh"))
    assert any(path.name.startswith("libc.so") for path in found)
    assert all(path.is_absolute() and os.access(path, os.R_OK) for path in found)


def test_configuration_of_the_boot_loader():
    lines = disk.CONFIGURATION.splitlines()
    assert lines[:2] == ["DEFAULT atoll", "PROMPT 0"]
    assert lines[-1].startswith("  APPEND console=tty0 console=ttyS0,115200 quiet ")
    assert max(map(len, lines)) < 255, "syslinux reads lines of at most 254 bytes"


def test_disks_have_room_for_what_guests_write():
    assert disk.mebibytes(18 * 2**20) == 22
    assert disk.mebibytes(18 * 2**20 + 1) == 23


def test_scripts_come_with_the_package():
    names = {place for place, path in initramfs.parts().items() if path.is_relative_to(initramfs.ROOT)}
    assert {"init", "guest/start", "guest/json.awk", "www/cgi-bin/index.cgi", "etc/acpi/PWRF/00000080"} <= names

import struct
from pathlib import Path

import pytest

from atoll.errors import AtollError
from atoll.guest import kernel, programs

SHOW = """\
Package: linux-image-cloud-amd64
Version: 6.1.192-2
Depends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)
Description: Linux for Cloud (meta-package)
"""


def silent(_text: str) -> None:
    pass


def vmlinuz(path: Path, version: str) -> Path:
    """Write a file with the header of a kernel."""
    head = bytearray(0x1000)
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x20E, 0x300)
    text = f"{version} (somebody@example.org) #1 SMP\0".encode()
    head[0x500 : 0x500 + len(text)] = text
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head)
    return path


def install(system: Path, version: str) -> None:
    """Write the files of an installed kernel below `system`."""
    vmlinuz(system / "boot" / f"vmlinuz-{version}", version)
    modules = system / "lib" / "modules" / version
    modules.mkdir(parents=True)
    (modules / "modules.dep").touch()


@pytest.fixture
def cache(tmp_path) -> Path:
    made: Path = tmp_path / "cache"
    made.mkdir()
    return made


@pytest.fixture
def apt(monkeypatch):
    """Replace apt and dpkg, and return the list of commands; a download creates an empty package."""
    ran = []

    def run(command, directory=None, entered=b""):
        ran.append(list(command))
        if command[0] == "apt-get":
            (directory / f"{command[-1]}_6.1.192-2_amd64.deb").touch()
        return SHOW if command[0] == "apt-cache" else ""

    monkeypatch.setattr(programs, "run", run)
    monkeypatch.setattr(programs, "check", lambda _packages=None: None)
    return ran


def test_a_given_kernel_is_taken(tmp_path, cache):
    install(tmp_path, "6.1.0-9-cloud-amd64")
    given = kernel.Given(vmlinuz(tmp_path / "k", "6.9-own"), tmp_path / "m" / "6.9-own")
    assert kernel.find(given, cache, silent, tmp_path) == given


def test_a_given_kernel_and_modules_of_another(tmp_path):
    given = kernel.Given(vmlinuz(tmp_path / "k", "6.9-own"), tmp_path / "6.8-other")
    with pytest.raises(AtollError, match=r"k is Linux 6.9-own, but .*6.8-other has the modules of another version"):
        given.check()


@pytest.mark.parametrize("content", [b"", b"no kernel" * 1000])
def test_a_file_that_is_not_a_kernel(tmp_path, content):
    (tmp_path / "k").write_bytes(content)
    with pytest.raises(AtollError) as caught:
        kernel.Given(tmp_path / "k", tmp_path).check()
    assert caught.value.kind.code == "image.kernel"


def test_the_newest_cloud_kernel_of_the_machine_is_next(tmp_path, cache, apt):
    for version in ("6.1.0-9-cloud-amd64", "6.1.0-44-cloud-amd64", "6.12.0-1-amd64"):
        install(tmp_path, version)
    (cache / "linux-image-6.20.0-cloud-amd64_6.20-1_amd64.deb").touch()
    found = kernel.find(None, cache, silent, tmp_path)
    assert isinstance(found, kernel.Given)
    assert found.image.name == "vmlinuz-6.1.0-44-cloud-amd64"
    assert apt == []


def test_kernels_that_do_not_serve_are_passed_over(tmp_path):
    install(tmp_path, "6.1.0-9-cloud-amd64")
    (tmp_path / "boot" / "vmlinuz-6.1.0-9-cloud-amd64").write_bytes(b"broken")
    vmlinuz(tmp_path / "boot" / "vmlinuz-6.1.0-8-amd64", "6.1.0-8-amd64")  # without modules
    install(tmp_path, "6.18.44-own")
    assert kernel.installed(tmp_path) is None


def test_the_newest_package_of_the_cache_is_next(tmp_path, cache, apt):
    for version in ("6.1.0-9-cloud-amd64_6.1.90-1", "6.1.0-56-cloud-amd64_6.1.192-2"):
        (cache / f"linux-image-{version}_amd64.deb").touch()
    found = kernel.find(None, cache, silent, tmp_path)
    assert isinstance(found, kernel.Package)
    assert found.file.name == "linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64.deb"
    assert apt == []


def test_else_it_is_fetched(tmp_path, cache, apt):
    told: list[str] = []
    found = kernel.find(None, cache, told.append, tmp_path)
    assert isinstance(found, kernel.Package)
    assert found.file == cache / "linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64.deb"
    assert list(cache.iterdir()) == [found.file]
    assert [command[:2] for command in apt] == [["apt-cache", "show"], ["apt-get", "download"]]
    assert told == ["fetching linux-image-6.1.0-56-cloud-amd64"]


def test_nothing_is_left_of_a_fetch_that_fails(tmp_path, cache, apt, monkeypatch):
    def run(command, *_arguments):
        if command[0] == "apt-get":
            raise AtollError("image.failed", "apt-get failed: E: no network")
        return SHOW

    monkeypatch.setattr(programs, "run", run)
    with pytest.raises(AtollError, match="none can be fetched: apt-get failed: E: no network") as caught:
        kernel.find(None, cache, silent, tmp_path)
    assert caught.value.kind.code == "image.requirement"
    assert list(cache.iterdir()) == []


def test_apt_that_knows_no_kernel(tmp_path, cache, apt, monkeypatch):
    monkeypatch.setattr(programs, "run", lambda *_arguments: "")
    with pytest.raises(AtollError, match="apt has no package linux-image-cloud-amd64") as caught:
        kernel.find(None, cache, silent, tmp_path)
    assert "apt-get update" in (caught.value.hint or "")

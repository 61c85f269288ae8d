"""The capture of a running guest with its memory: the files that it leaves, and guests that go on after a refusal."""

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from machine_xml import FEATURES, definition

from atoll.cloudlet.captured import read_captured
from atoll.errors import AtollError
from atoll.services.nova.synthesis import hardware, save_image, saving
from atoll.site import capture as module
from atoll.site.capture import capture

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-utils is not installed")

SERVER = "72a5ac82-5636-4cc4-b022-73d8598deb68"
NEW = (11_003_000, 10_000_000)


class LibvirtError(Exception):
    """A double of libvirt's own exception."""


NAMES = {
    "UUIDString": "identifier", "isActive": "is_active", "XMLDesc": "describe", "detachDeviceFlags": "detach",
    "attachDeviceFlags": "attach", "saveParams": "save", "listAllDomains": "every", "getLibVersion": "library", "getVersion": "hypervisor",
}  # fmt: skip


class Double:
    """An object with the names of libvirt's methods."""

    def __getattr__(self, name: str) -> Any:
        if name in NAMES:
            return getattr(self, NAMES[name])
        raise AttributeError(name)


class Domain(Double):
    """A running guest with two interfaces, which it releases at the second look."""

    def __init__(self) -> None:
        self.interfaces, self.running, self.calls = 2, True, []
        self.fails = ""
        self.keeps = False
        self.restarts = False

    def identifier(self) -> str:
        return SERVER

    def is_active(self) -> bool:
        return self.running or self.restarts

    def describe(self, _flags: int) -> str:
        return definition(live=True, features=FEATURES, interfaces=self.interfaces)

    def detach(self, xml: str, flags: int) -> None:
        assert ("<interface" in xml, flags) == (True, 1)
        self.calls.append("detach")
        self.interfaces -= 0 if self.keeps else 1

    def attach(self, xml: str, flags: int) -> None:
        assert ("<interface" in xml, flags) == (True, 1)
        self.calls.append("attach")
        self.interfaces += 1

    def save(self, parameters: dict[str, str], flags: int) -> None:
        assert (parameters["image_format"], flags) == ("sparse", 4)
        if self.fails:
            raise LibvirtError(self.fails)
        self.calls.append(f"save with {self.interfaces}")
        xml = self.describe(0).encode()
        head = save_image.HEADER.pack(save_image.MAGIC, 2, 70_000, 0, save_image.SPARSE, 0)
        Path(parameters["file"]).write_bytes(head + xml.ljust(70_000, b"\0") + b"QEVM")
        self.running = False


class Connection(Double):
    def __init__(self, *domains: Domain, versions: tuple[int, int] = NEW) -> None:
        self.domains, self.versions = domains, versions

    def every(self) -> tuple[Domain, ...]:
        return self.domains

    def library(self) -> int:
        return self.versions[0]

    def hypervisor(self) -> int:
        return self.versions[1]


class Site:
    def __init__(self, directory: Path) -> None:
        self.directory, self.domain = directory, Domain()
        self.settings = SimpleNamespace(data=directory / "data", site="paris")
        self.instance = directory / "data" / "instances" / SERVER
        self.instance.mkdir(parents=True)
        (directory / "data" / "instances" / "_base").mkdir()
        below = directory / "data" / "instances" / "_base" / "image"
        below.write_bytes(b"image".ljust(1 << 20, b"x"))
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", below, "-F", "raw", self.instance / "disk"], check=True)

    def capture(self, server: str = SERVER, connection: Connection | None = None) -> module.Capture:
        return capture(self.settings, server, self.directory / "files", lambda *_: None, connection or Connection(self.domain))

    def refused(self, code: str, expected: str, *arguments: object) -> None:
        with pytest.raises(AtollError, match=expected) as caught:
            self.capture(*arguments)
        assert (caught.value.kind.code, "\n" in caught.value.message) == (code, False)
        assert not (self.directory / "files").exists()
        assert [path.name for path in self.instance.iterdir()] == ["disk"]


@pytest.fixture
def site(tmp_path, monkeypatch) -> Site:
    constants = SimpleNamespace(VIR_DOMAIN_AFFECT_LIVE=1, VIR_DOMAIN_SAVE_PAUSED=4, libvirtError=LibvirtError)
    monkeypatch.setattr(module, "libvirt", constants)
    monkeypatch.setattr(saving, "libvirt", constants)
    monkeypatch.setattr(saving, "DETACHED_S", 0.0)
    return Site(tmp_path)


@pytest.mark.parametrize("server", [SERVER, "web"])
def test_guest_is_captured_without_its_interfaces_and_its_names(site, server):
    made = site.capture(server)
    assert site.domain.calls == ["detach", "detach", "save with 0"]
    assert (made.server, made.path) == (SERVER, site.directory / "files")
    found = read_captured(site.directory / "files")
    assert (found.cpu, found.machine) == ("EPYC", "pc-i440fx-10.0")
    assert hardware.parse(found.parts["hardware"].read_bytes()).features == ("+erms", "-vme")
    assert found.parts["disk"].read_bytes() == b"image".ljust(1 << 20, b"x")
    memory = found.parts["memory"].read_bytes()
    assert (len(memory), memory[-4:], memory[92 : 92 + 70_000].strip(b"\0")) == (92 + 70_000 + 4, b"QEVM", b"")
    assert [path.name for path in site.instance.iterdir()] == ["disk"]


def test_directory_that_exists_is_kept(site):
    (site.directory / "files").mkdir()
    with pytest.raises(AtollError, match="exists: expected a new name"):
        site.capture()
    assert site.domain.calls == []
    assert (site.directory / "files").is_dir()


@pytest.mark.parametrize("versions", [(9_000_000, 10_000_000), (11_003_000, 7_002_000)])
def test_older_qemu_or_libvirt_is_refused_before_the_guest_is_touched(site, versions):
    expected = "can't save memory at fixed places: expected QEMU 9.0 and libvirt 11.2"
    site.refused("cloudlet.capture", expected, SERVER, Connection(site.domain, versions=versions))
    assert site.domain.calls == []


def test_unknown_and_ambiguous_names(site):
    site.refused("server.unknown", "no servers of this site are called other", "other")
    site.refused("server.unknown", "2 servers of this site are called web", "web", Connection(site.domain, Domain()))


def test_server_whose_user_calls_it_by_the_id_of_another_one_is_not_captured(site, monkeypatch):
    other = "0b0a3f1c-0000-4000-8000-000000000001"
    monkeypatch.setattr(module, "_name", lambda _domain: other)
    for given in (other, other.upper(), other.replace("-", "")):
        site.refused("server.unknown", "no servers of this site are called", given)
    assert site.domain.calls == []


def test_guest_that_does_not_run(site):
    site.domain.running = False
    site.refused("cloudlet.capture", "does not run")


def test_guest_that_keeps_its_interfaces_goes_on(site):
    site.domain.keeps = True
    site.refused("cloudlet.capture", "does not release its network interfaces")
    assert (site.domain.running, site.domain.interfaces) == (True, 2)


def test_guest_whose_memory_can_not_be_saved_gets_its_interfaces_again(site):
    site.domain.fails = "no space\nleft"
    site.refused("cloudlet.capture", "the guest's memory can't be saved: no space left")
    assert (site.domain.running, site.domain.interfaces) == (True, 2)
    assert site.domain.calls == ["detach", "detach", "attach", "attach"]


def test_guest_that_is_started_meanwhile_is_no_capture(site):
    site.domain.restarts = True
    site.refused("cloudlet.capture", "was started again while its disk was read")


def test_disk_whose_header_names_a_strangers_file_is_refused(site):
    """The guest's QEMU can write the header."""
    (site.directory / "secret").write_bytes(b"secret".ljust(1 << 20, b"x"))
    subprocess.run(["qemu-img", "rebase", "-u", "-b", site.directory / "secret", "-F", "raw", site.instance / "disk"], check=True)
    site.refused("cloudlet.invalid", "names a backing file that is none of this site's images")


def test_without_libvirt(site, monkeypatch):
    monkeypatch.setattr(module, "libvirt", None)
    with pytest.raises(AtollError, match="Python's libvirt is missing"):
        capture(site.settings, SERVER, site.directory / "files", lambda *_: None)

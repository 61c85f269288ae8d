"""A site's libvirtd with a real QEMU: its user, its rights, its view of the file system, and its end."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from atoll.namespaces import CLONE_NEWNET, unshare
from atoll.runtime.parents import adopt_orphans
from atoll.services.nova import libvirtd
from atoll.services.nova.libvirtd import PROGRAMS

PATIENCE_S = 120

DOMAIN = """
<domain type='qemu'>
  <name>instance-1</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
  <os><type arch='x86_64'>hvm</type></os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/><source file='{instances}/one/disk'/><target dev='vda' bus='virtio'/>
    </disk>
    <serial type='tcp'>
      <source mode='bind' host='127.0.0.1' service='{port}'/><log file='{instances}/one/console.log' append='off'/>
    </serial>
    <graphics type='vnc' port='-1' listen='127.0.0.1'/>
  </devices>
</domain>
"""


def until(condition, what: str):
    end = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.05)
    return found


class Site:
    """The libvirtd of a site, in a network namespace of its own, below a directory that only root can traverse."""

    def __init__(self, settings) -> None:
        self.settings = settings
        self.instances = settings.data / "instances"
        for name, text in libvirtd.configuration(settings).items():
            path = settings.etc / name
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_text(text)
        settings.save()
        settings.data.mkdir(mode=0o700)
        (settings.data / "keystone.db").write_text("secret")
        self.log = settings.directory / "libvirtd.log"
        self.log.touch()
        self.pid = self._start()
        until(lambda: self.virsh("version", check=False), str(self.log))

    def _start(self) -> int:
        """Start libvirtd below a process that reaps, as a site's supervisor does: init may not, and libvirtd waits 15 s for each zombie."""
        pid = os.fork()
        if pid == 0:
            adopt_orphans()
            child = self._start_libvirtd()
            signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
            while os.wait()[0] != child:
                pass
            os._exit(0)
        return pid

    def _start_libvirtd(self) -> int:
        pid = os.fork()
        if pid == 0:
            with suppress(BaseException):
                output = os.open(self.log, os.O_WRONLY)
                os.dup2(output, 1)
                os.dup2(output, 2)
                os.umask(0o077)
                unshare(CLONE_NEWNET)
                libvirtd.move_in(self.settings)
                os.execvp(libvirtd.COMMAND[0], libvirtd.COMMAND)
            os._exit(1)
        return pid

    def virsh(self, *words: str, check: bool = True) -> bool:
        command = ["virsh", "--connect", libvirtd.uri(self.settings), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
        assert done.returncode == 0 or not check, (done.stderr, self.log.read_text())
        return done.returncode == 0

    def qemu(self) -> int:
        return int((self.settings.sockets / "libvirt" / "qemu" / "instance-1.pid").read_text())

    def close(self) -> None:
        self.virsh("destroy", "instance-1", check=False)
        os.kill(self.pid, signal.SIGTERM)
        os.waitpid(self.pid, 0)


@pytest.fixture
def site(settings) -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="virt", dir="/tmp") as directory:
        made = Site(replace(settings, directory=Path(directory) / "sites" / "paris", network="ovn", hypervisor="qemu"))
        try:
            yield made
        finally:
            made.close()


def make_disk(path: Path, backing: Path) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", backing, "-F", "raw", path], check=True)


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run libvirtd")
@pytest.mark.skipif(any(shutil.which(name) is None for name in (*PROGRAMS, "virsh")), reason=f"not installed: {', '.join(PROGRAMS)}")
def test_qemu_has_no_rights_and_sees_nothing_of_its_site_but_guests(site):
    """The test creates a guest's files as Nova does, whose umask it has."""
    umask = os.umask(0o077)
    try:
        (site.instances / "older").mkdir()
        libvirtd.open_instances(site.settings)
        one, base, snapshots = (site.instances / name for name in ("one", "_base", "snapshots"))
        for directory in (one, base, snapshots):
            directory.mkdir()
        # `snapshot` of nova/virt/libvirt/driver.py
        snapshot = Path(tempfile.mkdtemp(dir=snapshots))
        snapshot.chmod(0o701)
        (base / "image").write_bytes(bytes(1 << 20))
        for disk in (one / "disk", snapshot / "delta"):
            make_disk(disk, base / "image")
        (one / "console.log").touch()
    finally:
        os.umask(umask)
    domain = site.settings.directory / "domain.xml"
    domain.write_text(DOMAIN.format(instances=site.instances, port=23456))
    site.virsh("create", str(domain))
    pid = site.qemu()
    seen = status(pid)
    user = pwd.getpwuid(int(seen["Uid"].split()[0])).pw_name
    assert user == libvirtd.account()[0] != "root"
    assert "0" not in seen["Uid"].split() + seen["Gid"].split() + seen["Groups"].split()
    assert (int(seen["CapEff"], 16), int(seen["CapPrm"], 16)) == (0, 0)
    assert seen["Seccomp"] == "2", "QEMU must run under a filter of system calls"
    assert "-sandbox\0on" in Path(f"/proc/{pid}/cmdline").read_text()
    root = Path(f"/proc/{pid}/root")
    inside = root / str(site.settings.directory).lstrip("/")
    assert (inside / "data" / "instances" / "one" / "disk").exists()
    assert sorted(path.name for path in inside.iterdir()) == ["data", "etc", "log", "run"]
    assert sorted(path.name for path in (inside / "data").iterdir()) == ["instances", "libvirt"]
    assert (site.instances / "older").stat().st_mode & 0o777 == libvirtd.PASSABLE
    copy = ["--reuse-external", "--shallow", "--transient-job", "--wait", "--finish", "--timeout", str(PATIENCE_S)]
    site.virsh("blockcopy", "instance-1", "vda", str(snapshot / "delta"), *copy)
    site.virsh("save", "instance-1", str(site.settings.data / "libvirt" / "lib" / "saved"))
    site.virsh("restore", str(site.settings.data / "libvirt" / "lib" / "saved"))
    assert status(site.qemu())["Uid"] == seen["Uid"]
    site.virsh("destroy", "instance-1")
    assert {path.stat().st_uid for path in one.iterdir()} == {0}, "the files must belong to root again, so that Nova may change them"


@pytest.mark.parametrize(("accounts", "user"), [(("root",), "root"), (("nobody-of-that-name",), libvirtd.NOBODYS_ID)])
def test_account_is_one_that_there_is(monkeypatch, tmp_path, accounts, user):
    monkeypatch.setattr(libvirtd, "ACCOUNTS", accounts)
    monkeypatch.setattr(libvirtd, "KVM", tmp_path / "none")
    assert libvirtd.account()[0] == user


def test_group_is_that_of_kvm(monkeypatch, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    kvm = tmp_path / "kvm"
    kvm.touch()
    os.chown(kvm, 0, 4711)
    monkeypatch.setattr(libvirtd, "KVM", kvm)
    assert libvirtd.account()[1] == "+4711"

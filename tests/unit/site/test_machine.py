"""The abilities of a machine for guests; the tests do not depend on their own machine."""

import json
import re
import shutil
import subprocess

import pytest

from atoll.errors import AtollError
from atoll.services import GUEST_PROGRAMS
from atoll.site import machine
from atoll.site.machine import Machine


@pytest.fixture
def complete(monkeypatch):
    """Simulate a machine with all programs, and root."""
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(machine, "find_spec", lambda _name: object())
    monkeypatch.setattr(machine.os, "geteuid", lambda: 0)
    monkeypatch.setattr(machine.abilities, "complaint", lambda _networks: None)


def test_nothing_is_in_the_way(complete):
    assert machine.obstacle() is None


def test_missing_programs_are_named_with_their_packages(complete, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None if name in ("ovn-northd", "haproxy") else f"/usr/bin/{name}")
    error = machine.obstacle()
    assert (error.kind.code, error.message) == ("guests.unavailable", "not installed: ovn-northd, haproxy")
    assert error.hint == "apt-get install haproxy ovn-central"


def test_missing_programs_depend_on_the_data_plane(complete, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None if name in ("ovn-northd", "dnsmasq") else f"/usr/bin/{name}")
    assert machine.obstacle().message == "not installed: ovn-northd"
    assert machine.obstacle(["ovs"]).message == "not installed: dnsmasq"
    assert machine.obstacle(["ovs", "ovn"]).hint == "apt-get install dnsmasq-base ovn-central"


def test_missing_module_is_named(complete, monkeypatch):
    monkeypatch.setattr(machine, "find_spec", lambda _name: None)
    assert "Python's module libvirt" in machine.obstacle().message


def test_ordinary_user_is_not_asked_to_install_what_would_not_help(complete, monkeypatch):
    monkeypatch.setattr(machine.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    monkeypatch.setattr(machine, "find_spec", lambda _name: None)
    assert machine.obstacle().message.startswith("only root can run guests")


def test_missing_capabilities_and_features_are_reported(complete, monkeypatch):
    monkeypatch.setattr(machine.abilities, "complaint", lambda _networks: ("root lacks CAP_NET_RAW here", "have it"))
    error = machine.obstacle()
    assert (error.kind.code, error.message, error.hint) == ("guests.unavailable", "root lacks CAP_NET_RAW here", "have it")


def test_every_program_has_a_package():
    assert {program for programs in GUEST_PROGRAMS.values() for program in programs} <= set(machine.PACKAGES)


@pytest.fixture
def probed(monkeypatch):
    """Simulate a machine with the same old QEMU and OVN in each test."""
    monkeypatch.setattr(machine, "_version_of", lambda program: f"{program} 1")
    monkeypatch.setattr(machine, "_ovn_uses_two_zones", lambda: False)
    monkeypatch.setattr(machine, "_qemu_maps_ram", lambda: False)


def newer(name):
    """Return versions of which one has changed."""
    return lambda program: f"{program} {2 if program == name else 1}"


@pytest.mark.parametrize("changed", [newer("qemu-system-x86_64"), newer("ovn-northd")], ids=["QEMU", "OVN"])
def test_answer_of_the_probe_is_remembered_until_a_version_changes(probed, monkeypatch, tmp_path, changed):
    asked = []
    monkeypatch.setattr(machine, "kvm_works", lambda _cache: bool(asked.append("kvm")) or True)
    monkeypatch.setattr(machine, "_may_use_kvm", lambda: True)
    monkeypatch.setattr(machine, "_kernel_has_switch", lambda: False)
    assert [machine.probe(tmp_path) for _ in range(2)] == [Machine("kvm", "netdev")] * 2
    assert asked == ["kvm"]
    monkeypatch.setattr(machine, "_version_of", changed)
    monkeypatch.setattr(machine, "_qemu_maps_ram", lambda: True)
    assert machine.probe(tmp_path) == Machine("kvm", "netdev", mapped_ram=True)
    (tmp_path / "machine.json").write_text("{half")
    machine.probe(tmp_path)
    assert len(asked) == 3
    assert json.loads((tmp_path / "machine.json").read_text())["hypervisor"] == "kvm"


def test_remembered_answer_holds_only_where_its_devices_are_there(probed, monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "kvm_works", lambda _cache: True)
    monkeypatch.setattr(machine, "_kernel_has_switch", lambda: True)
    monkeypatch.setattr(machine, "_may_use_kvm", lambda: True)
    assert [machine.probe(tmp_path) for _ in range(2)] == [Machine("kvm", "system")] * 2
    monkeypatch.setattr(machine, "_may_use_kvm", lambda: False)
    assert machine.probe(tmp_path) == Machine("qemu", "system")
    monkeypatch.setattr(machine, "_kernel_has_switch", lambda: False)
    assert machine.probe(tmp_path) == Machine("qemu", "netdev")
    monkeypatch.setattr(machine, "_may_use_kvm", lambda: True)
    monkeypatch.setattr(machine, "_kernel_has_switch", lambda: True)
    assert machine.probe(tmp_path) == Machine("kvm", "system")


def test_existing_switch_stays_what_it_is_when_the_module_comes(probed, monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "kvm_works", lambda _cache: False)
    monkeypatch.setattr(machine, "_kernel_has_switch", lambda: False)
    machine.probe(tmp_path)
    monkeypatch.setattr(machine, "_kernel_has_switch", lambda: True)
    assert machine.probe(tmp_path) == Machine("qemu", "netdev")


def test_kvm_that_could_not_be_tried_is_tried_again(probed, monkeypatch, tmp_path):
    answers = [None, True]
    monkeypatch.setattr(machine, "kvm_works", lambda _cache: answers.pop(0))
    monkeypatch.setattr(machine, "_may_use_kvm", lambda: True)
    monkeypatch.setattr(machine, "_kernel_has_switch", lambda: False)
    assert [machine.probe(tmp_path).hypervisor for _ in range(3)] == ["qemu", "kvm", "kvm"]


def test_without_a_guest_image_kvm_is_not_judged(monkeypatch, tmp_path):
    def build(*_arguments):
        raise AtollError("image.requirement", "no kernel")

    monkeypatch.setattr(machine, "_may_use_kvm", lambda: True)
    monkeypatch.setattr(machine, "build", build)
    assert machine.kvm_works(tmp_path) is None


@pytest.mark.parametrize(("script", "speaks"), [("echo loading; echo BusyBox v1; sleep 60", True), ("exit 1", False), ("sleep 60", False)])
def test_guest_must_speak_in_time(monkeypatch, tmp_path, script, speaks):
    run = subprocess.Popen
    monkeypatch.setattr(machine.subprocess, "Popen", lambda _command, **options: run(["sh", "-c", f"exec 2>&1; {script}"], **options))
    assert machine.speaks([], tmp_path / "image", 1.0) is speaks


def test_without_the_device_nothing_is_tried(monkeypatch, tmp_path):
    monkeypatch.setattr(machine.os, "access", lambda *_: False)
    monkeypatch.setattr(machine, "build", None)
    assert machine.kvm_works(tmp_path) is False


def test_installed_qemu_maps_ram_from_9_on():
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("QEMU is not installed")
    found = re.search(r"version (\d+)\.", machine._version_of("qemu-system-x86_64"))
    assert found is not None
    assert machine._qemu_maps_ram() is (int(found[1]) >= 9)


def test_a_program_that_is_not_installed_has_no_version_and_no_features(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert machine._version_of("ovn-northd") == ""
    assert not machine._ovn_uses_two_zones()
    assert not machine._qemu_maps_ram()

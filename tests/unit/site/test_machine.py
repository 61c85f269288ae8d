"""What this machine can do for guests, whatever machine it is."""

import json
import shutil
import subprocess

import pytest

from atoll.services import GUEST_PROGRAMS
from atoll.site import machine
from atoll.site.machine import Machine


@pytest.fixture
def complete(monkeypatch):
    """A machine on which everything is installed, and root."""
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(machine, "find_spec", lambda _name: object())
    monkeypatch.setattr(machine.os, "geteuid", lambda: 0)


def test_nothing_is_in_the_way(complete):
    assert machine.obstacle() is None


def test_missing_programs_are_named_with_their_packages(complete, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None if name in ("ovn-northd", "haproxy") else f"/usr/bin/{name}")
    error = machine.obstacle()
    assert (error.kind.code, error.message) == ("guests.unavailable", "not installed: ovn-northd, haproxy")
    assert error.hint == "apt-get install haproxy ovn-central"


def test_what_is_missing_depends_on_the_network(complete, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None if name in ("ovn-northd", "dnsmasq") else f"/usr/bin/{name}")
    assert machine.obstacle().message == "not installed: ovn-northd"
    assert machine.obstacle(["ovs"]).message == "not installed: dnsmasq"
    assert machine.obstacle(["ovs", "ovn"]).hint == "apt-get install dnsmasq-base ovn-central"


def test_missing_module_and_missing_rights_are_named(complete, monkeypatch):
    monkeypatch.setattr(machine.os, "geteuid", lambda: 1000)
    assert machine.obstacle().message.startswith("only root can run guests")
    monkeypatch.setattr(machine, "find_spec", lambda _name: None)
    assert "Python's module libvirt" in machine.obstacle().message


def test_every_program_has_a_package():
    assert {program for programs in GUEST_PROGRAMS.values() for program in programs} <= set(machine.PACKAGES)


def test_answer_of_the_probe_is_remembered_until_kernel_or_qemu_change(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(machine, "kvm_works", lambda _cache: bool(asked.append("kvm")) or True)
    monkeypatch.setattr(machine, "_kernel_has_switch", lambda: False)
    monkeypatch.setattr(machine, "_version_of_qemu", lambda: "QEMU 7.2")
    assert [machine.probe(tmp_path) for _ in range(2)] == [Machine("kvm", "netdev")] * 2
    assert asked == ["kvm"]
    monkeypatch.setattr(machine, "_version_of_qemu", lambda: "QEMU 9.0")
    machine.probe(tmp_path)
    (tmp_path / "machine.json").write_text("{half")
    machine.probe(tmp_path)
    assert len(asked) == 3
    assert json.loads((tmp_path / "machine.json").read_text())["hypervisor"] == "kvm"


@pytest.mark.parametrize(("script", "speaks"), [("echo loading; echo BusyBox v1; sleep 60", True), ("exit 1", False), ("sleep 60", False)])
def test_guest_must_speak_in_time(monkeypatch, tmp_path, script, speaks):
    run = subprocess.Popen
    monkeypatch.setattr(machine.subprocess, "Popen", lambda _command, **options: run(["sh", "-c", f"exec 2>&1; {script}"], **options))
    assert machine.speaks([], tmp_path / "image", 1.0) is speaks


def test_without_the_device_nothing_is_tried(monkeypatch, tmp_path):
    monkeypatch.setattr(machine.os, "access", lambda *_: False)
    monkeypatch.setattr(machine, "build", None)
    assert machine.kvm_works(tmp_path) is False

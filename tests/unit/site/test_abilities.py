"""Capabilities and features that guests need; the tests do not depend on the machine."""

import re
import shutil
import subprocess

import pytest

from atoll.site import abilities
from atoll.site.abilities import CAPABILITIES, FEATURES, Feature

YES, NO = (
    Feature("things", ("true",), "make some"),
    Feature("wings", ("sh", "-c", "echo first >&2; echo 'no feathers' >&2; exit 3"), "grow some"),
)


@pytest.fixture
def status(monkeypatch, tmp_path):
    """Return a function that sets the capabilities of the process."""
    monkeypatch.setattr(abilities, "_STATUS", tmp_path / "status")

    def status_(*missing: str) -> None:
        effective = (1 << 41) - 1 & ~sum(1 << CAPABILITIES[name].number for name in missing)
        (tmp_path / "status").write_text(f"Name:\tpython\nCapPrm:\t{0:016x}\nCapEff:\t{effective:016x}\nCapBnd:\t{0:016x}\n")

    status_()
    return status_


def test_nothing_is_missing(status):
    assert abilities.complaint(["ovn"], [YES]) is None


def test_capability_is_named_with_what_it_is_for(status):
    status("CAP_NET_ADMIN")
    text, hint = abilities.complaint(["ovn"], [NO])
    assert text == "root lacks CAP_NET_ADMIN here: guests have interfaces, and their networks routes"
    assert hint == "run as root of the machine, or give the container CAP_NET_ADMIN"


def test_all_capabilities_that_are_missing_are_named(status):
    status("CAP_SYS_ADMIN", "CAP_NET_RAW")
    text, hint = abilities.complaint(["ovn"], [NO])
    assert text == "root lacks CAP_NET_RAW, CAP_SYS_ADMIN here: " + "; ".join(
        CAPABILITIES[name].purpose for name in ("CAP_NET_RAW", "CAP_SYS_ADMIN")
    )
    assert hint.endswith(" CAP_NET_RAW CAP_SYS_ADMIN")


def test_capability_that_one_network_needs(status):
    status("CAP_KILL")
    assert abilities.complaint(["ovn"], [YES]) is None
    assert abilities.complaint(["ovn", "ovs"], [YES])[0].startswith("root lacks CAP_KILL here: ")


def test_purpose_of_several_capabilities_is_told_once(status):
    status("CAP_SETUID", "CAP_SETGID")
    assert abilities.complaint(["ovn"], [])[0].count("libvirt") == 1


def test_kernel_that_does_not_tell_capabilities_lacks_none(monkeypatch, tmp_path):
    monkeypatch.setattr(abilities, "_STATUS", tmp_path / "status")
    (tmp_path / "status").write_text("Name:\tpython\n")
    assert abilities.complaint(["ovn"], [YES]) is None


def test_numbers_are_the_kernels():
    if shutil.which("capsh") is None:
        pytest.skip("no capsh, which knows the numbers (Debian's libcap2-bin)")
    said = subprocess.run(
        ["capsh", f"--decode={sum(1 << each.number for each in CAPABILITIES.values()):x}"], capture_output=True, text=True, check=True
    )
    assert set(re.findall(r"cap_\w+", said.stdout)) == {name.lower() for name in CAPABILITIES}


def test_feature_that_is_missing_is_named_with_what_the_trial_said(status):
    assert abilities.complaint(["ovn"], [YES, NO]) == ("this machine has no wings: no feathers", "grow some")


def test_trial_that_hangs(monkeypatch):
    monkeypatch.setattr(abilities, "_TRIAL_S", 0.1)
    assert Feature("x", ("sleep", "60"), "").refusal() == "sleep did not end within 0 s"


def test_trial_that_says_nothing_or_can_not_be_run():
    assert Feature("x", ("sh", "-c", "exit 3"), "").refusal() == "exit status 3"
    assert Feature("x", ("/no/such",), "").refusal() == "/no/such: No such file or directory"


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_trials_leave_nothing_behind(feature):
    """Each trial runs in a namespace that ends with it."""
    assert feature.trial[0] == "unshare"
    assert feature.trial[1] in ("--net", "--mount")

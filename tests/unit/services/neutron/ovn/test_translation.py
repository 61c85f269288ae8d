"""The probe of OVN's translation, with the installed OVN, if any, and with doubles of an old and a new one."""

import re
import shutil
import subprocess

import pytest

from atoll.services.neutron.ovn import translation


@pytest.fixture
def version() -> tuple[int, int]:
    """The version of the installed OVN, or `None`."""
    if shutil.which("ovn-northd") is None:
        pytest.skip("OVN is not installed")
    said = subprocess.run(["ovn-northd", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.match(r"ovn-northd (\d+)\.(\d+)", said)
    assert found is not None
    return int(found[1]), int(found[2])


def test_installed_ovn_uses_two_zones_from_23_06_on(version):
    assert translation.uses_two_zones() is (version >= (23, 6))


@pytest.mark.parametrize(
    ("flows", "two"),
    [
        ("actions=(ct_snat_in_czone;) actions=(ct_snat(192.0.2.1);)", False),
        ("actions=(ct_dnat;) actions=(ct_snat(192.0.2.1);)", True),
        ("", False),  # nothing is known
    ],
)
def test_flows_tell(monkeypatch, flows, two):
    monkeypatch.setattr(translation, "_start", lambda *_: None)
    monkeypatch.setattr(translation, "_await", lambda _path: None)
    monkeypatch.setattr(translation, "_run", lambda program, *_: flows if program == "ovn-sbctl" else "")
    monkeypatch.setattr(translation.subprocess, "run", lambda *_, **__: None)
    assert translation.uses_two_zones() is two

"""The verb `atoll unit`, which prints the unit of a cloud."""

import getpass

import pytest


@pytest.mark.usefixtures("cloud")
def test_unit_is_about_this_cloud_and_user(atoll, directory, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/opt/atoll/bin/atoll"])
    lines = atoll("unit").out.splitlines()
    assert f"ExecStart=/opt/atoll/bin/atoll --state {directory} up" in lines
    assert f"User={getpass.getuser()}" in lines


def test_unit_needs_a_cloud(atoll):
    ran = atoll("unit")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("error: ")

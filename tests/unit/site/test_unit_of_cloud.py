"""The systemd unit of a cloud, which systemd itself must accept."""

import shutil
import subprocess
from pathlib import Path

import pytest

from atoll.site.unit import unit


def fields(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def test_unit_starts_and_stops_the_cloud():
    found = fields(unit(["/opt/atoll/bin/atoll"], Path("/srv/cloud"), Path("/var/cache/atoll"), "root"))
    assert found["ExecStart"] == "/opt/atoll/bin/atoll --state /srv/cloud up"
    assert found["ExecStop"] == "/opt/atoll/bin/atoll --state /srv/cloud down"
    assert found["RequiresMountsFor"] == "/srv/cloud /var/cache/atoll"
    assert found["Environment"] == "XDG_CACHE_HOME=/var/cache"
    assert found["User"] == "root"


def test_failed_start_is_tried_again_and_ends_nothing():
    found = fields(unit(["/bin/atoll"], Path("/srv/cloud"), Path("/var/cache/atoll"), "root"))
    assert (found["Restart"], found["StartLimitIntervalSec"]) == ("on-failure", "0")
    assert (found["KillMode"], found["OOMPolicy"], found["TasksMax"]) == ("process", "continue", "infinity")
    assert "Requires" not in found, "a site that is cut off must start"


def test_paths_are_quoted_as_systemd_reads_them():
    found = fields(unit(["/opt/my atoll"], Path("/srv/100%/a$b"), Path("/c d/atoll"), "root"))
    assert found["ExecStart"] == '"/opt/my atoll" --state /srv/100%%/a$$b up'
    assert found["RequiresMountsFor"] == '/srv/100%%/a$b "/c d/atoll"'
    assert found["Environment"] == '"XDG_CACHE_HOME=/c d"'


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("name", ["cloud", "100% a$b\"c'd"])
def test_systemd_accepts_the_unit(tmp_path, name):
    program = tmp_path / "100% a$b" / "atoll"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    file = tmp_path / "atoll.service"
    file.write_text(unit([str(program)], tmp_path / name / "state", tmp_path / "cache" / "atoll", "root"), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True, check=False, timeout=60)
    told = [line for line in (done.stdout + done.stderr).splitlines() if file.name in line]
    assert told == [], done

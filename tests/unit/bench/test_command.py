import os
import subprocess

import pytest

from atoll.bench.command import atoll, pids
from atoll.errors import AtollError
from atoll.site.state import State


def test_a_command_that_fails_says_its_last_error(tmp_path):
    log = tmp_path / "log"
    log.write_text("error: an old one\n")
    with pytest.raises(AtollError, match=r"^`atoll up /nowhere.yaml`: .*nowhere.yaml") as caught:
        atoll(State(tmp_path / "s"), log, dict(os.environ), "up", "/nowhere.yaml")
    assert caught.value.kind.code == "bench.failed"


def test_a_command_that_hangs_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("atoll.bench.command.TIMEOUT_S", 0.1)
    made = []
    popen = subprocess.Popen

    def begin(_words, **options):
        made.append(popen(["sleep", "60"], **options))
        return made[-1]

    monkeypatch.setattr(subprocess, "Popen", begin)
    with pytest.raises(AtollError, match="has not ended within"):
        atoll(State(tmp_path / "s"), tmp_path / "log", {}, "up")
    assert made[0].returncode is not None


def test_a_cloud_that_does_not_run_has_no_processes(tmp_path):
    assert pids(State(tmp_path / "s")) == []

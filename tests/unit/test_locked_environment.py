"""Environments from lock files: made once, by uv or by the standard library, and failures in one line."""

import subprocess
import sys
from pathlib import Path

import pytest

from atoll import locked_environment
from atoll.locked_environment import NotMade


@pytest.fixture
def commands(monkeypatch):
    """Record the commands instead of running them."""
    asked = []

    def run(words, **_options):
        asked.append(words)
        return subprocess.CompletedProcess(words, 0, "", "")

    monkeypatch.setattr(locked_environment.subprocess, "run", run)
    monkeypatch.setattr(locked_environment.shutil, "which", lambda _name, path: "/bin/uv")
    return asked


@pytest.fixture
def lock(tmp_path):
    found = tmp_path / "requirements.lock"
    found.write_text("rally==2\n", encoding="utf-8")
    return found


def ensure(lock: Path, say=lambda _text: None) -> Path:
    return locked_environment.ensure(lock, lock.parent / "made", "making it", say)


def test_the_environment_is_made_once(commands, lock):
    said = []
    assert ensure(lock, said.append) == lock.parent / "made" / "bin" / "python"
    assert [words[1] for words in commands] == ["venv", "pip"]
    assert "--require-hashes" in commands[1]
    assert commands[1][-1] == str(lock)
    ensure(lock, said.append)
    assert len(commands) == 2
    assert said == ["making it"]


def test_another_lock_file_makes_it_again_and_has_another_key(commands, lock):
    ensure(lock)
    before = locked_environment.key(lock)
    lock.write_text("rally==3\n", encoding="utf-8")
    ensure(lock)
    assert len(commands) == 4
    assert locked_environment.key(lock) != before


def test_without_uv_it_is_made_by_venv_and_pip(commands, monkeypatch, lock):
    monkeypatch.setattr(locked_environment.shutil, "which", lambda _name, path: None)
    ensure(lock)
    assert commands[0][:3] == [sys.executable, "-m", "venv"]
    assert commands[1][:4] == [str(lock.parent / "made" / "bin" / "python"), "-m", "pip", "install"]


@pytest.mark.parametrize(("output", "reason"), [("x\nerror: no route\nhint\n", "error: no route"), ("a\nb\n", "b"), ("", "status 1")])
def test_a_failure_is_told_and_leaves_no_environment(commands, monkeypatch, lock, output, reason):
    monkeypatch.setattr(locked_environment.subprocess, "run", lambda words, **_options: subprocess.CompletedProcess(words, 1, "", output))
    with pytest.raises(NotMade) as raised:
        ensure(lock)
    assert str(raised.value) == f"`uv venv` failed: {reason}"
    assert not (lock.parent / "made" / "installed").exists()


def test_a_directory_that_can_not_be_made_is_told(commands, lock):
    (lock.parent / "made").write_text("", encoding="utf-8")
    with pytest.raises(NotMade, match="made: File exists"):
        ensure(lock)
    assert not commands

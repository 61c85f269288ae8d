"""Rally's environment: made once from the lock file, by uv or by the standard library, and failures in one line."""

import subprocess
import sys
from pathlib import Path

import pytest

from atoll.errors import AtollError
from atoll.rally import environment


@pytest.fixture
def commands(monkeypatch, tmp_path):
    """Record the commands instead of running them; `tmp_path` is the place of the environment."""
    asked = []

    def run(words, **_options):
        asked.append(words)
        return subprocess.CompletedProcess(words, 0, "", "")

    monkeypatch.setattr(environment.subprocess, "run", run)
    monkeypatch.setattr(environment.shutil, "which", lambda _name, path: "/bin/uv")
    monkeypatch.setenv(environment.DIRECTORY, str(tmp_path / "made"))
    return asked


def test_the_environment_is_made_once(commands, tmp_path):
    said = []
    assert environment.ensure(said.append) == tmp_path / "made" / "bin" / "python"
    assert [words[1] for words in commands] == ["venv", "pip"]
    assert "--require-hashes" in commands[1]
    assert commands[1][-1] == str(environment.LOCK)
    assert len(said) == 1
    environment.ensure(said.append)
    assert len(commands) == 2
    assert len(said) == 1


def test_another_lock_file_makes_it_again(commands, tmp_path):
    environment.ensure(lambda _text: None)
    (tmp_path / "made" / "installed").write_text("rally==1\n", encoding="utf-8")
    environment.ensure(lambda _text: None)
    assert len(commands) == 4


def test_without_uv_it_is_made_by_venv_and_pip(commands, monkeypatch, tmp_path):
    monkeypatch.setattr(environment.shutil, "which", lambda _name, path: None)
    environment.ensure(lambda _text: None)
    assert commands[0][:3] == [sys.executable, "-m", "venv"]
    assert commands[1][:4] == [str(tmp_path / "made" / "bin" / "python"), "-m", "pip", "install"]


def test_a_failure_is_told_and_leaves_no_environment(commands, monkeypatch, tmp_path):
    failed = subprocess.CompletedProcess([], 1, "", "x\nerror: no route to host\n")
    monkeypatch.setattr(environment.subprocess, "run", lambda _words, **_options: failed)
    with pytest.raises(AtollError, match=r"can't be made: `uv venv` failed: error: no route to host") as raised:
        environment.ensure(lambda _text: None)
    assert raised.value.kind.code == "rally.unavailable"
    assert not (tmp_path / "made" / "installed").exists()


def test_each_lock_file_has_a_directory_of_its_own(monkeypatch, tmp_path):
    monkeypatch.delenv(environment.DIRECTORY, raising=False)
    first = environment.directory()
    other = tmp_path / "requirements.lock"
    other.write_text("rally==1\n", encoding="utf-8")
    monkeypatch.setattr(environment, "LOCK", other)
    assert environment.directory() != first
    assert environment.directory().parent == first.parent


def test_the_lock_file_names_no_package_index():
    text = environment.LOCK.read_text(encoding="utf-8")
    assert "--hash=sha256:" in text
    assert "://" not in text


def test_rally_sees_no_settings_of_the_user(monkeypatch, tmp_path):
    for name in ("OS_PASSWORD", "PYTHONPATH", "RALLY_TASK"):
        monkeypatch.setenv(name, "x")
    found = environment.variables(tmp_path)
    assert not {"OS_PASSWORD", "PYTHONPATH", "RALLY_TASK"} & set(found)
    assert found["HOME"] == str(tmp_path)


def test_an_answer_of_rally_is_read(monkeypatch):
    driver = "import json, sys; json.dump([sys.argv[1], json.load(open(sys.argv[2]))], open(sys.argv[3], 'w'))"
    monkeypatch.setattr(environment, "command", lambda python, verb, *files: [python, "-c", driver, verb, *map(str, files)])
    assert environment.ask(sys.executable, "check", {"tasks": []}) == ["check", {"tasks": []}]


def test_a_broken_environment_is_told(monkeypatch, tmp_path):
    python = tmp_path / "bin" / "python"
    monkeypatch.setattr(environment, "command", lambda *_words: [sys.executable, "-c", "raise SystemExit('no module named rally')"])
    with pytest.raises(AtollError, match="Rally does not work: no module named rally") as raised:
        environment.ask(python, "check", {})
    assert str(tmp_path) in raised.value.hint


def test_the_driver_is_run_apart_from_the_users_packages():
    assert environment.command(Path("/x/python"), "run", Path("/in"), Path("/out"))[1:3] == ["-I", str(environment.DRIVER)]

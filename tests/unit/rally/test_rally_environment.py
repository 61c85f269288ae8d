"""Rally's environment: its directory and lock file, and failures in one line."""

import sys
from pathlib import Path

import pytest

from atoll import locked_environment
from atoll.errors import AtollError
from atoll.rally import environment


def test_the_user_may_name_the_directory(monkeypatch, tmp_path):
    monkeypatch.setenv(environment.DIRECTORY, str(tmp_path / "made"))
    monkeypatch.setattr(locked_environment, "_make", lambda _lock, _directory, _python: None)
    assert environment.ensure(lambda _text: None) == tmp_path / "made" / "bin" / "python"


def test_a_failure_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv(environment.DIRECTORY, str(tmp_path / "made"))

    def fail(*_arguments):
        raise locked_environment.NotMade("`uv venv` failed: error: no route to host")

    monkeypatch.setattr(locked_environment, "_make", fail)
    with pytest.raises(AtollError, match="can't be made: `uv venv` failed: error: no route to host") as raised:
        environment.ensure(lambda _text: None)
    assert raised.value.kind.code == "rally.unavailable"


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

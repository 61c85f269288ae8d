import os
import subprocess
import sys

import click
import pytest

from atoll.cli.group import EXIT_CODES, VERBS, cli
from atoll.cli.main import find_system_programs
from atoll.errors import AtollError
from atoll.site import status


def raising(error: BaseException):
    def raise_it(*_args: object, **_options: object) -> None:
        raise error

    return raise_it


def test_expected_failure_is_one_line_and_a_hint(atoll, monkeypatch, directory):
    monkeypatch.setattr(status, "status", raising(AtollError("site.failed", "it failed", "try `atoll up` again")))
    ran = atoll("status")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"error: it failed\nhint: try `atoll --state {directory} up` again\n"


def test_a_name_in_an_error_does_not_command_the_terminal(atoll, monkeypatch):
    monkeypatch.setattr(status, "status", raising(AtollError("site.failed", "no \x1b[2J\x9b1m\u202eserver\n   ^")))
    assert atoll("status").err == "error: no \\x1b[2J\\x9b1m\\u202eserver\n   ^\n"


def test_hint_is_left_out_if_there_is_none(atoll, monkeypatch):
    monkeypatch.setattr(status, "status", raising(AtollError("site.failed", "it failed")))
    assert atoll("status").err == "error: it failed\n"


def test_bug_is_told_from_failure(atoll, monkeypatch):
    monkeypatch.setattr(status, "status", raising(ZeroDivisionError("division\nby zero")))
    ran = atoll("status")
    assert ran.code == 70
    assert ran.err.startswith("error: this is a bug in atoll: ZeroDivisionError: division by zero\nhint: run the command again as `")
    assert "Traceback" in atoll("--traceback", "status").err


def test_interrupted(atoll, monkeypatch):
    monkeypatch.setattr("atoll.site.up.up", raising(KeyboardInterrupt()))
    ran = atoll("up")
    assert ran.code == 130
    assert "error: interrupted\nhint: operations that have begun continue" in ran.err


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("/usr/bin:/bin", "/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"),
        ("/usr/sbin:/home/me", "/usr/sbin:/home/me:/usr/local/sbin:/sbin"),
        (None, f"{os.defpath}:/usr/local/sbin:/usr/sbin:/sbin"),
    ],
)
def test_programs_for_administrators_are_found(monkeypatch, before, after):
    if before is None:
        monkeypatch.delenv("PATH")
    else:
        monkeypatch.setenv("PATH", before)
    find_system_programs()
    assert os.environ["PATH"] == after


def test_cache_that_cannot_be_written(atoll, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/nonexistent/cache")
    monkeypatch.setattr(status, "status", raising(PermissionError(13, "Permission denied", "/nonexistent")))
    ran = atoll("status")
    assert (ran.code, ran.err) == (1, "error: /nonexistent: permission denied\nhint: set XDG_CACHE_HOME to a directory of your own\n")


def test_output_that_cannot_be_written(atoll, monkeypatch):
    monkeypatch.setattr(status, "status", raising(OSError(28, "No space left on device")))
    ran = atoll("status")
    assert (ran.code, ran.err) == (1, "error: standard output: no space left on device\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bogus"], "error: no such command 'bogus'\nhint: `atoll"),
        (["--bogus"], "error: no such option '--bogus'\nhint: `atoll"),
        (["status", "--bogus"], "error: no such option '--bogus'\nhint: `atoll"),
        (["logs", "-n", "x"], "error: invalid value for '-n' / '--lines': 'x' is not a valid integer range\nhint: `atoll"),
        (["logs", "a", "b"], "error: got unexpected extra argument (b)\nhint: `atoll"),
        (["openstack", "--site"], "error: option '--site' requires an argument\nhint: `atoll"),
    ],
)
def test_usage_errors(atoll, arguments, message):
    ran = atoll(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(message)


def test_help_lists_verbs_and_exit_codes(atoll):
    ran = atoll("--help")
    assert ran.code == 0
    for verb in VERBS:
        assert f"\n  {verb} " in ran.out
    for code, text in EXIT_CODES.items():
        assert f"\n  {code} " in ran.out
        assert text.split(",")[0] in ran.out
    assert "..." not in ran.out.partition("Commands:")[2].partition("Example:")[0]


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_help_with_an_example(atoll, verb):
    ran = atoll(verb, "--help")
    assert ran.code == 0
    assert "Example:\n  " in ran.out
    assert "atoll " in ran.out.partition("Example:")[2]
    assert "Args:" not in ran.out


GROUPS = [name for name in VERBS if isinstance(cli.get_command(click.Context(cli), name), click.Group)]


@pytest.mark.parametrize("group", GROUPS)
def test_help_of_a_group_shows_whole_summaries(atoll, monkeypatch, group):
    monkeypatch.setenv("COLUMNS", "80")
    shown = atoll(group, "--help").out
    assert all(len(line) <= 80 for line in shown.splitlines())
    commands = cli.get_command(click.Context(cli), group).commands.values()
    for command in commands:
        summary = " ".join(command.help.partition("\n\n")[0].split())
        assert summary in " ".join(shown.split())


def test_version_option(atoll):
    assert atoll("--version").out.startswith("atoll 0.")


def test_help_imports_nothing_that_takes_long():
    code = "import sys; from atoll.cli.main import run; run(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    slow = {"pydantic", "rich", "yaml", "asyncio", "platformdirs", "psutil", "atoll.services", "atoll.cloud", "atoll.runtime", "nova"}
    assert not slow & set(done.stderr.split())


def test_python_m_atoll():
    done = subprocess.run([sys.executable, "-m", "atoll", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("atoll ")


def test_every_verb_of_the_table_is_called_so():
    for name in VERBS:
        command = cli.get_command(None, name)
        assert command is not None
        assert command.name == name

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from atoll.cli import openstack as openstack_verb
from atoll.runtime import client
from atoll.runtime.client import ProcessState, ProcessStatus
from atoll.site import status
from atoll.site.up import Outcome


@pytest.fixture
def running(monkeypatch):
    """Return the list of statuses that the supervisor reports, for the test to fill."""
    found: list[ProcessStatus] = []

    class Fake:
        def status(self, *, memory: bool = False) -> list[ProcessStatus]:
            assert memory
            return found

    monkeypatch.setattr(status, "connect", lambda _root: Fake())
    return found


def process(name: str, kind: str, state: str = "ready", pid: int | None = 42) -> ProcessStatus:
    return ProcessStatus(name, kind, ProcessState(state), pid, 0.0, 1, 70_400_000 if pid else None, 200.0 if pid else None, None, "/log")


# up


def test_up_says_how_to_go_on(atoll, cloud, directory, monkeypatch):
    monkeypatch.setattr("atoll.site.up.up", lambda *_args: Outcome(cloud, ("lyon/keystone", "paris/nova")))
    ran = atoll("up")
    assert ran.code == 0
    urls = "paris  http://127.0.0.1:15001/identity/v3\nlyon   http://127.0.0.1:15011/identity/v3\n\n"
    assert re.match(rf"up in \d\.\d s:\n{urls}", ran.out)
    for step in ("status", "openstack server list", "env paris)"):
        assert f"atoll --state {directory} {step}" in ran.out
    assert "fake driver" in ran.out


def test_up_says_why_servers_are_records(atoll, cloud, monkeypatch):
    monkeypatch.setattr("atoll.site.up.up", lambda *_args: Outcome(cloud, (), obstacle="root lacks CAP_NET_RAW here"))
    assert atoll("up").out.endswith("they become ACTIVE, but no guest runs (root lacks CAP_NET_RAW here).\n")


def test_up_with_all_up_says_so(atoll, cloud, monkeypatch):
    monkeypatch.setattr("atoll.site.up.up", lambda *_args: Outcome(cloud, ()))
    assert atoll("up").out.startswith("already up, nothing to do: paris, lyon\n")


def test_up_marks_what_was_up_already(atoll, cloud, monkeypatch):
    monkeypatch.setattr("atoll.site.up.up", lambda *_args: Outcome(cloud, ("lyon/keystone",)))
    assert "paris  http://127.0.0.1:15001/identity/v3  (was up already)\nlyon   http://127.0.0.1:15011/identity/v3\n" in atoll("up").out


def test_up_with_a_bad_file(atoll, tmp_path, directory):
    file = tmp_path / "c.yaml"
    file.write_text("sites:\n- name: paris\n  port: here\n")
    ran = atoll("up", str(file))
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"error: {file}:3: sites[0].port: expected an integer from 1024 to 65520, got the text 'here'\nhint: ")
    assert not directory.exists()


def test_up_with_a_file_that_is_not_there(atoll):
    assert atoll("up", "/nowhere.yaml").err.startswith("error: /nowhere.yaml: no such file\n")


# down, destroy


def test_down_when_nothing_runs(atoll, cloud):
    assert (atoll("down").out, atoll("down", "lyon").out) == ("no site is running\n", "not running: lyon\n")


def test_down_of_an_unknown_site(atoll, cloud):
    ran = atoll("down", "rome")
    assert ran.code == 1
    assert "error: no site is called rome: expected one of paris, lyon\n" in ran.err  # on a busy machine, after a line of progress


def test_destroy_needs_somebody_to_ask(atoll, cloud, directory):
    ran = atoll("destroy")
    assert ran.code == 2
    assert "nobody can confirm this: expected --yes" in ran.err
    assert (directory / "sites/paris").exists()


def test_destroy_asks(atoll, cloud, directory, monkeypatch):
    asked = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.confirm", lambda text, **_options: asked.append(text))
    assert atoll("destroy", "paris").out == "destroyed: paris\n"
    assert asked == [f"Delete paris in {directory} for good?"]
    assert not (directory / "sites/paris").exists()
    assert (directory / "sites/lyon").exists()


def test_destroy_with_yes(atoll, cloud, directory):
    assert atoll("destroy", "--yes").out == "destroyed: paris, lyon\n"
    assert not directory.exists()
    assert atoll("destroy", "--yes").out == "there is nothing to destroy\n"


# status


def test_status_when_nothing_runs(atoll, cloud):
    ran = atoll("status")
    assert (ran.code, ran.out) == (0, "no site is running\n")


def test_status_before_the_first_up(atoll):
    ran = atoll("status")
    assert (ran.code, ran.out) == (0, "no site is running\n")
    assert json.loads(atoll("status", "--json").out)["running"] is False


def test_status_table(atoll, cloud, running):
    running += [process("supervisor", "supervisor"), process("nova", "fork_server")]
    running += [process("paris/keystone", "service"), process("paris/nova", "service", "restarting", None)]
    lines = [" ".join(line.split()) for line in atoll("status").out.splitlines()]
    assert lines[0] == "SERVICE STATE PID MEMORY UPTIME RESTARTS"
    assert "paris/keystone ready 42 70 MB 3m 20s 1" in lines
    assert "paris/nova restarting 1" in lines
    assert "paris: total partial 70 MB" in lines
    assert "lyon: total stopped 0 MB" in lines
    assert "fork server nova ready 42 70 MB 3m 20s 1" in lines
    assert "supervisor ready 42 70 MB 3m 20s 1" in lines
    assert lines[-1] == "total 211 MB"


def test_status_json(atoll, cloud, running):
    running += [process("paris/keystone", "service")]
    data = json.loads(atoll("status", "--json", "paris").out)
    assert [site["name"] for site in data["sites"]] == ["paris"]
    assert data["sites"][0]["processes"][0]["pid"] == 42


# logs


def test_logs_of_one_service_are_as_they_are(atoll, cloud, directory):
    (directory / "sites/paris/log/nova.log").write_text("one\ntwo [red]three\n")
    assert atoll("logs", "-n", "1", "paris/nova").out == "two [red]three\n"


def test_logs_of_many_say_whose(atoll, cloud, directory):
    for site, service in (("paris", "nova"), ("lyon", "glance")):
        (directory / f"sites/{site}/log/{service}.log").write_text("a line\n")
    assert atoll("logs").out == "paris/nova      | a line\nlyon/glance     | a line\n"


def test_logs_when_there_are_none(atoll, cloud):
    ran = atoll("logs", "lyon/glance")
    assert (ran.code, ran.out, ran.err) == (0, "", "no log has been written yet: lyon/glance\n")


# env


def test_env_is_understood_by_a_shell(atoll, cloud, directory):
    out = atoll("env", "lyon").out
    password = json.loads((directory / "sites/lyon/settings.json").read_text())["secrets"]["admin"]
    script = f'{out}\necho "$OS_AUTH_URL $OS_PASSWORD $OS_CLOUD."'
    environment = {"OS_CLOUD": "other", "PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["sh", "-eu", "-c", script.replace("$OS_CLOUD", "${OS_CLOUD-}")], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout == f"http://127.0.0.1:15011/identity/v3 {password} .\n"
    assert all(shlex.split(line)[0] in ("unset", "export") for line in out.splitlines())


def test_env_json_and_default_site(atoll, cloud):
    assert json.loads(atoll("env", "--json").out)["OS_AUTH_URL"] == "http://127.0.0.1:15001/identity/v3"


def test_env_of_an_unknown_site(atoll, cloud):
    assert atoll("env", "rome").code == 1


def test_env_without_a_cloud(atoll, directory):
    ran = atoll("env", "paris")
    assert ran.err.startswith(f"error: there is no cloud in {directory}\nhint: start one with `atoll --state {directory} up`")


# openstack


@pytest.fixture
def executed(monkeypatch):
    calls: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(openstack_verb.os, "execve", lambda _path, words, environment: calls.append((words[1:], environment)))
    monkeypatch.setattr(client, "connect", lambda _root: object())
    monkeypatch.setattr(Path, "exists", lambda _self: True)
    return calls


@pytest.mark.parametrize(
    ("typed", "site", "passed"),
    [
        ([], "paris", []),
        (["server", "list"], "paris", ["server", "list"]),
        (["--site", "lyon", "server", "list", "--help"], "lyon", ["server", "list", "--help"]),
        (["--site=lyon", "--help"], "lyon", ["--help"]),
        (["--debug", "--site", "x", "--", "-f", "json"], "paris", ["--debug", "--site", "x", "--", "-f", "json"]),
        (["server", "create", "--site", "lyon", "-h", "", "a b"], "paris", ["server", "create", "--site", "lyon", "-h", "", "a b"]),
        (["--site", "lyon", "--", "x"], "lyon", ["--", "x"]),
    ],
)
def test_openstack_passes_on_everything(atoll, cloud, directory, executed, typed, site, passed):
    assert atoll("openstack", *typed).code == 0
    words, environment = executed[0]
    assert words == passed
    assert environment["OS_CLOUD"] == site
    assert environment["OS_CLIENT_CONFIG_FILE"] == str(directory / "clouds.yaml")


def test_openstack_when_nothing_runs(atoll, cloud):
    ran = atoll("openstack", "server", "list")
    assert ran.code == 1
    assert ran.err.startswith("error: paris is not running\nhint: bring it up with `atoll")


# version, completion


def test_version(atoll):
    assert "\nnova " in atoll("version").out
    assert set(json.loads(atoll("version", "--json").out)) >= {"atoll", "nova", "openstackclient"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_shell_code(atoll, shell):
    assert "_ATOLL_COMPLETE" in atoll("completion", shell).out


def test_completion_knows_verbs_and_sites(cloud, directory):
    environment = os.environ | {"_ATOLL_COMPLETE": "bash_complete", "ATOLL_STATE": str(directory)}

    def complete(words: str, index: int) -> str:
        extra = {"COMP_WORDS": words, "COMP_CWORD": str(index)}
        done = subprocess.run(["atoll"], executable=_atoll(), env=environment | extra, capture_output=True, text=True, check=True)
        return done.stdout

    assert complete("atoll de", 1) == "plain,destroy\n"
    assert complete("atoll down p", 2) == "plain,paris\n"


def _atoll() -> str:
    import sys

    return str(Path(sys.executable).with_name("atoll"))

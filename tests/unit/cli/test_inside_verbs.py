"""`atoll exec` and `atoll shell`, up to the `execve` of the program."""

import os

import pytest

from atoll.cloud import parse_cloud
from atoll.site import inside
from atoll.site.composition import render_sites
from atoll.site.state import State
from atoll.site.up import Outcome, write_sites

TRIANGLE = "sites: [{name: paris}, {name: lyon}]\ntopology: {defaults: {delay: 5ms}}\n"


@pytest.fixture
def became(monkeypatch):
    """Return the arguments of `execve`, and the umask at that moment."""
    calls: list[tuple[list[str], str]] = []
    monkeypatch.setattr(inside.os, "execve", lambda _path, words, environment: calls.append((words, environment["ATOLL_SITE"])))
    monkeypatch.setattr(inside, "connect", lambda _root: object())
    return calls


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["--", "sh", "-c", "x"], ["sh", "-c", "x"]),
        (["sh", "--help"], ["sh", "--help"]),
        (["sh", "--", "-h"], ["sh", "--", "-h"]),
        (["--", "sh", "--", ""], ["sh", "--", ""]),
    ],
)
def test_exec_passes_on_everything(atoll, cloud, became, typed, words):
    assert atoll("exec", "lyon", *typed).code == 0
    assert became == [(words, "lyon")]


@pytest.mark.parametrize("typed", [["exec", "lyon"], ["exec", "lyon", "--"], ["exec"], ["shell"]])
def test_nothing_to_run(atoll, cloud, became, typed):
    ran = atoll(*typed)
    assert (ran.code, became) == (2, [])


def test_shell_with_something_to_run(atoll, cloud, became, monkeypatch):
    monkeypatch.setenv("SHELL", "/bin/sh")
    assert atoll("shell", "paris", "-c", "ls").code == 0
    assert became == [(["/bin/sh", "-c", "ls"], "paris")]


def test_no_such_program_is_one_line(atoll, cloud, became):
    ran = atoll("exec", "lyon", "nosuchprogram")
    assert (ran.code, ran.err.splitlines()[0]) == (1, "error: nosuchprogram can't be run: it is not on the PATH")


def test_not_running(atoll, cloud):
    ran = atoll("exec", "lyon", "ls")
    assert (ran.code, ran.err.splitlines()[0]) == (1, "error: lyon is not running")


def test_program_gets_the_persons_own_umask_back(directory):
    from atoll.cli.session import Session

    session = Session()
    session.umask = 0o027
    before = os.umask(0o077)
    try:
        session.restore()
        assert os.umask(0o077) == 0o027
    finally:
        os.umask(before)


@pytest.fixture
def triangle(directory):
    state = State(directory)
    made = parse_cloud(TRIANGLE, "c.yaml")
    write_sites(state, made, render_sites(state, made, directory / "templates"), "key")
    return made


def test_env_of_a_site_with_a_network_of_its_own_says_what_reaches_it(atoll, triangle, directory):
    first = atoll("env", "lyon").out.splitlines()[0]
    program = f"atoll --state {directory}"
    assert first == f"# lyon has a network of its own: only `{program} shell lyon` and `{program} exec lyon` reach this address."
    assert atoll("env").out.startswith("# paris has")


def test_up_with_a_topology_leads_into_the_sites(atoll, triangle, directory, monkeypatch):
    monkeypatch.setattr("atoll.site.up.up", lambda *_args: Outcome(triangle, ("lyon/keystone",)))
    out = atoll("up").out
    assert "lyon   http://10.77.1.1:8080/identity/v3\n" in out
    for step in ("wan show", "openstack server list", "shell paris"):
        assert f"atoll --state {directory} {step}" in out
    assert "eval" not in out

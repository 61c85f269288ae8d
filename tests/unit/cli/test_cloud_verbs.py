"""`atoll mesh`, `conflicts`, `site invite`, `leave` and `revoke`: their requests to a gateway, and their output."""

import json

import pytest

from atoll.errors import AtollError
from atoll.site import gateway_client

MEMBERS = {
    "clock_ahead_s": 0.0,
    "site": "paris",
    "members": [
        {"name": "lyon", "host": "10.77.1.1", "public_port": 8080, "state": "unreachable", "rtt_ms": None},
        {"name": "nice", "host": "10.77.2.1", "public_port": 8080, "state": "alive", "rtt_ms": 12.34},
        {"name": "paris", "host": "10.77.0.1", "public_port": 8080, "state": "alive", "rtt_ms": 0.0},
    ],
}
CONFLICT = {
    "kind": "user",
    "scope": "default",
    "name": "ann",
    "kept": "a" * 32,
    "renamed": "b" * 32,
    "new_name": "ann-bbbbbbbb",
    "sites": ["x", "y"],
}


@pytest.fixture
def asked(monkeypatch):
    """Return the list of requests to gateways, which answer with `asked.answer`."""

    class Asked(list):
        answer: object = None

    calls = Asked()

    def ask(_state, site, verb, *, timeout_s=None, **fields):
        calls.append((site, verb, fields))
        if isinstance(calls.answer, Exception):
            raise calls.answer
        return calls.answer

    monkeypatch.setattr(gateway_client, "ask", ask)
    return calls


def test_members_are_shown_as_the_site_sees_them(atoll, asked):
    asked.answer = MEMBERS
    lines = atoll("mesh").out.splitlines()
    assert asked == [(None, "members", {})]
    assert [line.split()[:2] for line in lines[1:]] == [["lyon", "unreachable"], ["nice", "alive"], ["paris", "here"]]
    assert "12.3 ms" in lines[2]
    assert json.loads(atoll("mesh", "nice", "--json").out) == MEMBERS


@pytest.mark.parametrize(("ahead_s", "told"), [(3600.2, "3600.2 s ahead of"), (-2.5, "2.5 s behind")])
def test_a_clock_that_is_wrong_is_told(atoll, asked, ahead_s, told):
    asked.answer = MEMBERS | {"clock_ahead_s": ahead_s}
    assert f"The clock of paris is {told} the other sites' clocks: correct it." in atoll("mesh").out


def test_conflicts_are_told(atoll, asked):
    asked.answer = {"conflicts": []}
    assert atoll("conflicts").out == "there are no conflicts\n"
    different = {"kind": "image", "id": "i", "sites": ["lyon", "nice"], "why": "they differ in owner", "since": "2026-11-29T00:00:00+00:00"}
    asked.answer = {"conflicts": [], "differing": [different]}
    assert "they differ in owner" in atoll("conflicts").out
    asked.answer = {"conflicts": [CONFLICT]}
    assert "ann-bbbbbbbb" in atoll("conflicts", "lyon").out
    assert json.loads(atoll("conflicts", "--json").out)["conflicts"] == [CONFLICT]
    assert asked[2][0] == "lyon"


def test_invitation_is_nothing_but_the_token(atoll, asked):
    asked.answer = {"token": "atoll1.abc"}
    assert atoll("site", "invite", "rome", "--at", "lyon", "--minutes", "5").out == "atoll1.abc\n"
    assert asked == [("lyon", "invite", {"name": "rome", "lifetime_s": 300.0})]
    assert json.loads(atoll("site", "invite", "rome", "--json").out) == asked.answer


@pytest.mark.parametrize(
    ("words", "call", "told", "key"),
    [
        (["leave", "nice"], ("nice", "leave", {}), "nice has left the cloud", "left"),
        (["revoke", "nice", "--at", "paris"], ("paris", "revoke", {"revoked": "nice"}), "revoked: nice", "revoked"),
    ],
)
def test_members_go(atoll, asked, words, call, told, key):
    assert atoll("site", *words, "--yes").out == f"{told}\n"
    assert asked == [call]
    assert json.loads(atoll("site", *words, "--yes", "--json").out) == {key: "nice"}


@pytest.mark.parametrize("words", [["leave", "nice"], ["revoke", "nice"]])
def test_nobody_goes_unasked(atoll, asked, words):
    ran = atoll("site", *words)
    assert (ran.code, asked) == (2, [])
    assert "expected --yes" in ran.err


def test_gateway_that_refuses_is_quoted(atoll, asked):
    asked.answer = AtollError("mesh.refused", "a site nice exists or existed: a name can be used only once", "choose another name")
    ran = atoll("site", "invite", "nice")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "error: a site nice exists or existed: a name can be used only once\nhint: choose another name\n"


def test_password_that_others_can_read_is_refused(atoll, tmp_path):
    path = tmp_path / "password"
    path.write_text("secret")
    path.chmod(0o644)
    ran = atoll("site", "join", "atoll1.abc", "--admin-password-file", str(path))
    assert ran.code == 1
    assert "others can read the password" in ran.err
    assert "secret" not in ran.err


def test_without_a_cloud_there_is_nobody_to_ask(atoll):
    ran = atoll("mesh")
    assert ran.code == 1
    assert ran.err.startswith("error: there is no cloud")


def test_gateway_that_does_not_run_is_named(atoll, cloud):
    assert cloud.full_sites
    ran = atoll("mesh", "lyon")
    assert ran.code == 1
    assert ran.err.startswith("error: the gateway of lyon does not answer")

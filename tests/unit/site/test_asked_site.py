"""Requests to gateways over their control sockets: the site that is asked."""

import socket
from contextlib import ExitStack

import pytest

from atoll.cloud import Cloud
from atoll.errors import AtollError
from atoll.gateway.options import CONTROL_SOCKET
from atoll.site import gateway_client
from atoll.site.state import State

NAMES = ("paris", "lyon", "nice")


@pytest.fixture
def state(tmp_path, monkeypatch):
    cloud = Cloud.model_validate({"sites": [{"name": name, "port": 20000 + 10 * at} for at, name in enumerate(NAMES)]})
    monkeypatch.setattr(gateway_client, "applied_cloud", lambda _state: cloud)
    return State(tmp_path)


@pytest.fixture
def asked(monkeypatch):
    """Return the sites that were asked."""
    found = []
    monkeypatch.setattr(gateway_client, "ask", lambda _state, site, verb, *, timeout_s=None, **fields: found.append((site, verb, fields)))
    return found


@pytest.fixture
def run(state):
    """Yield a function that lets gateways listen."""
    with ExitStack() as opened:

        def listen(*names):
            for name in names:
                path = state.site(name) / "run" / CONTROL_SOCKET
                path.parent.mkdir(parents=True)
                made = opened.enter_context(socket.socket(socket.AF_UNIX))
                made.bind(str(path))
                made.listen()

        yield listen


@pytest.mark.parametrize(("running", "but", "expected"), [(NAMES, "", "paris"), (("lyon", "nice"), "", "lyon"), (NAMES, "paris", "lyon")])
def test_the_first_site_that_runs_is_asked(state, asked, run, running, but, expected):
    run(*running)
    gateway_client.ask_any(state, None, "revoke", but=but, revoked="x")
    assert asked == [(expected, "revoke", {"revoked": "x"})]


def test_a_named_site_is_asked_although_it_does_not_run(state, asked, run):
    run("lyon")
    gateway_client.ask_any(state, "paris", "members")
    assert asked == [("paris", "members", {})]


def test_without_a_site_that_runs_the_error_names_the_first(state, monkeypatch):
    monkeypatch.setattr(gateway_client, "check_known", lambda *_: None)
    with pytest.raises(AtollError, match="the gateway of paris does not answer"):
        gateway_client.ask_any(state, None, "members")

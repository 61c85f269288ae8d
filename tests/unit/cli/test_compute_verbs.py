"""Verbs for a compute site, whose APIs are those of its control site."""

import json

import pytest

from atoll.cli import openstack as openstack_verb
from atoll.cli.verb import complete_site
from atoll.cloud import Cloud, parse_cloud
from atoll.runtime import client
from atoll.runtime.client import ProcessState, ProcessStatus
from atoll.site import status
from atoll.site.composition import render_sites
from atoll.site.state import State
from atoll.site.up import Outcome, write_sites


@pytest.fixture
def coast(directory) -> Cloud:
    """Write the files of a cloud with a compute site, which comes first, and its control site; it does not run."""
    state = State(directory)
    made = parse_cloud("sites:\n- {name: edge, kind: compute, control: paris}\n- name: paris\n", "c.yaml")
    sites = render_sites(state, made, directory / "templates")
    write_sites(state, made, sites, "key")
    return made


def test_env_leads_to_the_control_site_and_says_so(atoll, coast):
    first, *rest = atoll("env", "edge").out.splitlines()
    assert first == "# edge is a compute site of paris: these are the credentials of the administrator of paris."
    assert rest == atoll("env", "paris").out.splitlines()
    assert json.loads(atoll("env", "--json", "edge").out) == json.loads(atoll("env", "--json").out)


def test_openstack_speaks_to_the_control_site(atoll, coast, monkeypatch):
    calls: list[dict[str, str]] = []
    monkeypatch.setattr(openstack_verb.os, "execve", lambda _path, _words, environment: calls.append(environment))
    monkeypatch.setattr(client, "connect", lambda _root: object())
    assert atoll("openstack", "--site", "edge", "server", "list").code == 0
    assert calls[0]["OS_CLOUD"] == "paris"


def test_up_names_the_control_site(atoll, coast, monkeypatch):
    monkeypatch.setattr("atoll.site.up.up", lambda *_args: Outcome(coast, ("edge/nova-compute", "edge/map-host")))
    out = atoll("up").out
    assert "\nedge   compute site of paris\nparis  http://127.0.0.1:15011/identity/v3  (was up already)\n" in out
    assert "env paris)" in out


def test_status_names_the_control_site(atoll, coast, monkeypatch):
    rows = [
        ProcessStatus(name, "service", ProcessState.READY, 42, 0.0, 0, 60_000_000, 5.0, None, "/log")
        for name in ("edge/nova-compute", "paris/nova")
    ]

    class Fake:
        def status(self, *, memory: bool = False) -> list[ProcessStatus]:
            return rows

    monkeypatch.setattr(status, "connect", lambda _root: Fake())
    lines = [" ".join(line.split()) for line in atoll("status").out.splitlines()]
    assert "edge/nova-compute ready 42 60 MB 5s 0" in lines
    assert "edge, of paris: total up 60 MB" in lines
    assert "paris/bus stopped 0" in lines
    site = json.loads(atoll("status", "--json", "edge").out)["sites"][0]
    assert (site["kind"], site["control"]) == ("compute", "paris")


def test_logs_of_a_service_that_a_compute_site_has_not(atoll, coast):
    ran = atoll("logs", "edge/keystone")
    assert ran.err.startswith("error: edge runs no keystone: expected one of edge/nova-compute, edge/map-host\n")


def test_control_site_is_not_destroyed_alone(atoll, coast, directory):
    ran = atoll("destroy", "--yes", "paris")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("error: paris is the control site of edge, which cannot do without it\nhint: `atoll --state ")
    assert (directory / "sites/paris").exists()


def test_shell_completes_compute_sites_too(coast, directory):
    import click

    context = click.Context(click.Command("atoll"))
    context.params["state"] = directory
    assert [item.value for item in complete_site(context, click.Argument(["site"]), "")] == ["edge", "paris"]

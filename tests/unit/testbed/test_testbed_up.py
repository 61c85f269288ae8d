"""`up` goes through its steps in order, continues after a failure, and `destroy` removes everything, without EnOSlib and SSH."""

import json
import textwrap
from pathlib import Path

import pytest
import yaml

from atoll.errors import AtollError
from atoll.site.state import State
from atoll.testbed import overview, provider, teardown, worker
from atoll.testbed import up as module
from atoll.testbed.record import HostsRecord, load
from atoll.testbed.up import up

# The file `fail` names a verb that must fail; `calls` has the verbs, with their standard input.
_ATOLL = """
    #!/usr/bin/env python3
    import json, os, pathlib, sys
    here = pathlib.Path({directory!r})
    words = sys.argv[1:]
    if words == ["--version"]:
        print("atoll", {version!r}); sys.exit()
    state, verb = pathlib.Path(words[1]), words[2:]
    site = state.parent.name
    name = " ".join(verb[:2]) if verb[0] == "site" else verb[0]
    given = sys.stdin.read() if name == "site join" else ""
    with (here / "calls").open("a") as log:
        log.write(json.dumps([site, name, verb, given.strip(), os.environ.get("ATOLL_COMPUTE", "")]) + chr(10))
    if (here / "fail").exists() and (here / "fail").read_text() == f"{{site}} {{name}}":
        if name == "site join":
            state.mkdir(parents=True, exist_ok=True); (state / "joining.json").touch()
        print("error: no luck", file=sys.stderr); sys.exit(1)
    if name == "site invite":
        print("atoll1.token-of-" + verb[2])
    elif name == "exec":
        print("pass word")
    elif name == "site join":
        state.mkdir(parents=True, exist_ok=True)
        assert pathlib.Path(verb[-1]).read_text() == "pass word"
        (state / "joining.json").unlink(missing_ok=True)
    elif name == "up":
        state.mkdir(parents=True, exist_ok=True)
        (state / "clouds.yaml").write_text(json.dumps({{"clouds": {{site: {{"region_name": site}}}}}}))
    elif name == "mesh":
        print(json.dumps({{"site": site, "members": [{{"name": each, "state": "alive"}} for each in ("paris", "lyon")]}}))
    elif name == "status":
        print(json.dumps({{"memory_bytes": 5, "sites": [{{"name": site, "state": "up", "url": "http://x"}}]}}))
"""

MACHINES = [{"address": f"192.0.2.{number}", "roles": [name]} for number, name in enumerate(("paris", "lyon"), 1)]


class EnOSlib:
    """EnOSlib's worker with static hosts that need no network."""

    def __init__(self) -> None:
        self.verbs: list[str] = []
        self.queues = 0

    def ask(self, verb: str, **_arguments: object) -> dict[str, object]:
        self.verbs.append(verb)
        ways = {"user": "root", "port": None, "keyfile": None, "options": []}
        answers: dict[str, dict[str, object]] = {
            "reserve": {"hosts": [{**each, **ways} for each in MACHINES]},
            "addresses": {"addresses": {str(each["address"]): str(each["address"]) for each in MACHINES}},
            "constrain": {"queues": {str(each["address"]): self.queues for each in MACHINES}},
        }
        return answers.get(verb, {})


@pytest.fixture
def enoslib(monkeypatch) -> EnOSlib:
    made = EnOSlib()
    monkeypatch.setattr(provider.Provider, "_ask", lambda _self, verb, **arguments: made.ask(verb, **arguments))
    return made


@pytest.fixture
def ground(bench, enoslib, monkeypatch):
    """Return the directory with the files of a cloud of two sites, whose hosts have a simulated Atoll."""
    for name, text in (("id", "echo 0"), ("tc", f"cat {bench}/queues 2>/dev/null || true")):
        (bench / "host" / name).write_text(f"#!/bin/sh\n{text}\n")
        (bench / "host" / name).chmod(0o755)
    program = bench / "host" / "atoll"
    program.write_text(textwrap.dedent(_ATOLL).lstrip().format(directory=str(bench), version=module.installation.version("atoll")))
    program.chmod(0o755)
    document = {"provider": "static", "configuration": {}, "directory": f"{bench}/hosts/{{site}}", "atoll": str(program)}
    (bench / "hosts.yaml").write_text(yaml.safe_dump(document))
    (bench / "cloud.yaml").write_text("name: coast\nsites: [{name: paris, compute: fake}, {name: lyon, compute: fake}]\n")
    return bench


def bring_up(ground: Path, file: str = "cloud.yaml") -> HostsRecord:
    return up(State(ground / "state"), ground / "cache", ground / file, ground / "hosts.yaml", lambda _text: None)


def calls(ground: Path) -> list[tuple[str, str]]:
    return [tuple(json.loads(line)[:2]) for line in (ground / "calls").read_text().splitlines()]


def test_first_site_founds_and_the_others_join(ground, enoslib):
    record = bring_up(ground)
    assert enoslib.verbs == ["validate", "reserve", "addresses"]
    joined = [("paris", "up"), ("paris", "site invite"), ("paris", "exec"), ("lyon", "site join"), ("lyon", "up")]
    assert calls(ground) == [*joined, ("paris", "mesh"), ("lyon", "mesh")]
    found = [json.loads(line) for line in (ground / "calls").read_text().splitlines() if "site join" in line]
    assert found[0][3:] == ["atoll1.token-of-lyon", "fake"]
    assert [site["state"] for site in overview.sites(record)] == ["up", "up"]
    clouds = yaml.safe_load((ground / "state" / "clouds.yaml").read_text())["clouds"]
    assert {name: entry["region_name"] for name, entry in clouds.items()} == {"paris": "paris", "lyon": "lyon", "default": "paris"}
    assert not list(ground.glob("hosts/*/password"))


def test_secrets_are_on_no_command_line(ground):
    bring_up(ground)
    assert "token-of" not in (ground / "ssh.log").read_text()
    assert "pass word" not in (ground / "ssh.log").read_text()


def test_interrupted_join_continues_with_its_token(ground):
    (ground / "fail").write_text("lyon site join")
    with pytest.raises(AtollError, match=r"the host of lyon \(192.0.2.2\): no luck"):
        bring_up(ground)
    record = load(State(ground / "state"))
    assert record is not None
    assert [(each.member, each.token) for each in record.placed.values()] == [(True, ""), (False, "atoll1.token-of-lyon")]
    assert [site["state"] for site in overview.sites(record)] == ["up", "missing"]
    (ground / "fail").unlink()
    bring_up(ground)
    assert calls(ground).count(("paris", "site invite")) == 1


def test_applying_again_changes_nothing(ground):
    bring_up(ground)
    before = calls(ground)
    bring_up(ground)
    assert calls(ground)[len(before) :] == [("paris", "up"), ("lyon", "up"), ("paris", "mesh"), ("lyon", "mesh")]


def test_constraints_are_checked_and_removed(ground, enoslib):
    (ground / "wan.yaml").write_text((ground / "cloud.yaml").read_text() + "topology: {defaults: {delay: 10ms}}\n")
    enoslib.queues = 1
    with pytest.raises(AtollError, match=r"the host of paris \(192.0.2.1\) has 0 of netem's queues instead of 1") as caught:
        bring_up(ground, "wan.yaml")
    assert "CONFIG_NET_SCH_NETEM" in (caught.value.hint or "")
    assert not (ground / "calls").exists(), "no site was started"
    (ground / "queues").write_text("qdisc htb 1: dev eth0\nqdisc netem 10: dev eth0 delay 10ms\n")
    bring_up(ground, "wan.yaml")
    bring_up(ground)
    assert enoslib.verbs[-2:] == ["addresses", "relax"], "the topology is gone"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sites: [{name: paris}]\n", "leaves out lyon: expected every site that exists"),
        ("sites: [{name: paris}, {name: lyon}, {name: edge, kind: compute, control: lyon, compute: fake}]", "edge is a compute site"),
        ("sites: [{name: paris}, {name: lyon}]\ntopology: {defaults: {jitter: 1ms}}", "has `jitter`, which EnOSlib's netem service lacks"),
    ],
)
def test_cloud_that_hosts_cannot_have(ground, text, message):
    bring_up(ground)
    (ground / "other.yaml").write_text(text)
    before = calls(ground)
    with pytest.raises(AtollError, match=message):
        bring_up(ground, "other.yaml")
    assert calls(ground) == before


def test_down_and_destroy(ground, enoslib):
    bring_up(ground)
    state = State(ground / "state")
    assert teardown.down(state, ["lyon"]) == ["lyon"]
    with pytest.raises(AtollError, match="no site is called rome: expected one of paris, lyon"):
        teardown.down(state, ["rome"])
    assert teardown.destroy(state, ground / "cache", ["lyon"], lambda _text: None) == ["lyon"]
    assert calls(ground)[-3:] == [("lyon", "down"), ("lyon", "site leave"), ("lyon", "destroy")]
    assert teardown.destroy(state, ground / "cache", [], lambda _text: None) == ["paris"]
    assert enoslib.verbs[-1] == "release"
    assert not state.root.exists()


def test_destroy_goes_on_if_a_host_is_off(ground, enoslib):
    bring_up(ground)
    (ground / "off").touch()
    said: list[str] = []
    assert teardown.destroy(State(ground / "state"), ground / "cache", [], said.append) == ["paris", "lyon"]
    assert sum("can't be reached" in text for text in said) == 2
    assert enoslib.verbs[-1] == "release"


def test_clear_keeps_the_hosts_for_another_cloud(ground, enoslib):
    bring_up(ground)
    state = State(ground / "state")
    teardown.clear(state, ground / "cache", lambda _text: None)
    assert calls(ground)[-2:] == [("paris", "destroy"), ("lyon", "destroy")]
    assert "release" not in enoslib.verbs
    (ground / "other.yaml").write_text("sites: [{name: lyon, compute: fake}]")
    bring_up(ground, "other.yaml")
    assert teardown.destroy(state, ground / "cache", [], lambda _text: None) == ["lyon"]
    assert enoslib.verbs[-1] == "release"


def test_worker_reports_errors_as_answers(monkeypatch):
    def fail(_request: object) -> dict[str, object]:
        raise worker.Refused("no host")

    monkeypatch.setitem(worker.VERBS, "fail", fail)
    assert worker.answer({"verb": "fail"})["error"]["kind"] in {"refused", "packages"}, "EnOSlib is not in the environment of the tests"

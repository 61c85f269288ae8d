"""The boundary to the cloud, with a stand-in for the commands; a real cloud is tried by hand: docs/how-to/fight-a-forest-fire.md."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from use_cases import cloud
from use_cases.cloud import AtollCloud, CloudError, NoCloud, Step

SITES = {"west": "paris", "east": "nice"}


class Commands:
    """Answers to commands, as Atoll and the openstack client give them."""

    def __init__(self, hypervisor: str, refusal: str = "") -> None:
        self.hypervisor, self.refusal = hypervisor, refusal
        self.done: list[str] = []
        self.networks: list[dict[str, str]] = []
        self.nearest, self.new = "paris", True

    def __call__(self, words: list[str]) -> str:
        line = " ".join("atoll" if word == str(cloud.ATOLL) else word for word in words)
        self.done.append(line)
        if "image build" in line or ("cloudlet overlay" in line and "upload" not in line):
            Path(words[3]).write_bytes(b"x" * 4096)
        if "cloudlet handoff" in line and self.refusal:
            raise CloudError(self.refusal)
        answers = {
            "hypervisor list": [{"Hypervisor Type": self.hypervisor}],
            "network list": self.networks,
            "flavor list": [{"Name": "big", "RAM": 4096}, {"Name": "small", "RAM": 512}, {"Name": "tiny", "RAM": 64}],
            "server create": {"id": "1234", "status": "ACTIVE"},
            "server list": [{"Name": "app", "Status": "ACTIVE"}],
            "cloudlet find": {"name": self.nearest},
            "cloudlet handoff": {"server": "1234", "site": "nice"},
            "cloudlet upload": {"image": "5678", "uploaded": self.new},
        }
        return next((json.dumps(answer) for name, answer in answers.items() if name in line), "")


def made(monkeypatch: pytest.MonkeyPatch, commands: Commands) -> AtollCloud:
    monkeypatch.setattr(cloud, "_run", commands)
    found = AtollCloud(SITES, "app")
    found.prepare()
    return found


def test_server_is_started_handed_off_and_deleted(monkeypatch):
    commands = Commands("QEMU")
    here = made(monkeypatch, commands)
    assert here.real
    assert [step.outcome for step in here.start("west")] == ["paris", "1234 is ACTIVE at paris"]
    assert any("exec paris -- openstack server create --image 5678 --flavor small" in line for line in commands.done)
    commands.nearest = "nice"
    assert [step.outcome for step in here.move("east")] == ["nice", "from paris to nice, with its id 1234"]
    assert [step.outcome for step in here.move("east")] == ["nice", "it is at nice already"]
    assert here.cut("east")[0].outcome.endswith("Its own API answers: app is ACTIVE")
    assert [step.what for step in here.finish()] == ["heal the WAN", "delete the server", "delete what was made"]
    heal, delete, *made_before = commands.done[-5:]
    assert heal.endswith("wan heal nice")
    assert delete.endswith("exec nice -- openstack server delete --wait app")
    assert [line.rsplit("openstack ")[1] for line in made_before] == [
        "image delete 5678",
        "image delete 5678",
        f"network delete {cloud.NETWORK}",
    ]
    assert not here.finish()


def test_refused_hand_off_is_told_and_another_server_started(monkeypatch):
    commands = Commands("fake", refusal="this server can't be handed off")
    here = made(monkeypatch, commands)
    assert not here.real
    assert "compute nothing" in here.title
    here.start("west")
    commands.nearest = "nice"
    _, refused, instead = here.move("east")
    assert refused.outcome == "refused: this server can't be handed off"
    assert instead.outcome == "1234 is ACTIVE at nice; the one at paris is deleted"


def test_what_was_there_is_neither_made_nor_deleted(monkeypatch):
    commands = Commands("fake")
    commands.networks, commands.new = [{"Name": cloud.NETWORK}], False
    assert not made(monkeypatch, commands).finish()
    assert not any("network create" in line or "delete" in line for line in commands.done)


def test_no_flavor_fits(monkeypatch):
    monkeypatch.setattr(cloud, "_run", Commands("fake"))
    with pytest.raises(CloudError, match="paris has no flavor with 9999 MiB of memory"):
        AtollCloud(SITES, "app", 9999).start("west")


def test_error_of_a_command_is_its_first_line():
    with pytest.raises(CloudError, match=r"^no such cloud$"):
        cloud._run(["sh", "-c", "echo 'error: no such cloud' >&2; echo 'hint: none' >&2; exit 1"])


def test_without_a_cloud_nothing_is_started():
    here = NoCloud()
    assert "no virtual machine is started" in here.title
    assert all(step.seconds is None for step in [*here.start("west"), *here.move("east"), *here.cut("east")])
    assert here.prepare() == here.finish() == []
    assert str(Step("a", "b", 1.25)) == "a: b (1.2 s)"

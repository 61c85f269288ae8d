"""The command `atoll bench cloudlet`, and its parts that need no cloud."""

import filecmp
import json
from contextlib import contextmanager

import pytest

from atoll.bench.cloudlet import data, experiment, rival, soak
from atoll.bench.cloudlet.files import OverlayOptions, measure_synthetic
from atoll.bench.cloudlet.parts import PARTS
from atoll.bench.cloudlet.report import STARTS, TARGETS
from atoll.bench.workspace import Workspace
from atoll.cli.main import run as atoll
from atoll.errors import AtollError

TINY = OverlayOptions(memory_mib=64, disk_mib=64, rounds=1)


def test_synthetic_guest(tmp_path):
    report = measure_synthetic(TINY, Workspace(tmp_path, {}, lambda _text: None))
    assert report["bit_exact"] is True
    assert 0 < report["overlay_mib"] < report["changed_mib"] < 64
    assert report["encode_mib_s"] > 0
    assert report["apply_s"] > 0
    assert list(tmp_path.iterdir()) == []


def test_without_the_rival(tmp_path, monkeypatch):
    monkeypatch.setattr(rival.shutil, "which", lambda _name: None)
    assert rival.measure(tmp_path, tmp_path, tmp_path, 1.0) == {}


def test_a_seed_makes_the_same_guest(tmp_path):
    made = []
    for name in ("left", "right"):
        (tmp_path / name).mkdir()
        made.append(data.make(tmp_path / name, 64, 64, 7))
    for left, right in zip(*made, strict=True):
        assert filecmp.cmp(left.disk, right.disk, shallow=False)
        assert filecmp.cmp(left.memory, right.memory, shallow=False)
    assert made[0][0].occupied_mib < made[0][1].occupied_mib


@pytest.fixture
def _own_workspace(tmp_path, monkeypatch):
    @contextmanager
    def workspace(_environment, _say):
        yield Workspace(tmp_path, {}, lambda _text: None)

    monkeypatch.setattr("atoll.bench.workspace.workspace", workspace)


REPORT = {
    "guest_disk_mib": 34,
    "overlay_mib": 0.5,
    "first_answer_s": {"synthesis_38mbit": 12.5},
    "synthetic": {"memory_mib": 64, "overlay_mib": 1.5},
    "failures": {},
}


@pytest.mark.usefixtures("_own_workspace")
def test_command(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(experiment, "check", seen.append)
    monkeypatch.setattr(experiment, "run", lambda options, *_arguments: seen.append(options) or REPORT)
    assert atoll(["bench", "cloudlet", "--part", "usb", "--part", "overlay", "--jobs", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == REPORT
    assert seen[0] is seen[1]
    assert (seen[0].parts, seen[0].repeats, seen[0].files.jobs) == (("usb", "overlay"), 3, 2)
    assert atoll(["bench", "cloudlet"]) == 0
    assert seen[-1].parts == PARTS
    shown = capsys.readouterr().out
    assert "SYNTHETIC" in shown
    assert "IMAGE" not in shown
    assert "12.5" in shown
    assert "zstd" not in shown


@pytest.mark.usefixtures("_own_workspace")
def test_failed_part_is_told_after_the_figures(monkeypatch, capsys):
    found = REPORT | {"failures": {"guest": {"usb": ["the link is cut"], "image": ["no image"]}}}
    monkeypatch.setattr(experiment, "check", lambda _options: None)
    monkeypatch.setattr(experiment, "run", lambda *_arguments: found)
    assert atoll(["bench", "cloudlet", "--json"]) != 0
    told = capsys.readouterr()
    assert json.loads(told.out.splitlines()[-1]) == found
    assert "2 measurements failed; the first is guest: usb: the link is cut" in told.err


def test_all_parts_can_be_named():
    from atoll.cli.bench_cloudlet import _PARTS

    assert _PARTS == PARTS


def test_all_figures_are_in_the_table():
    from atoll.cli.bench_cloudlet import KEYS

    flat = {f"first_answer_s.{name}" for _key, name in STARTS.values()} | {key for key, _name in STARTS.values()}
    assert flat | set(TARGETS) <= KEYS.keys()


@pytest.mark.parametrize("words", [[], ["--soak", "3"], ["--part", "overlay", "--part", "usb"]])
@pytest.mark.parametrize("why", ["only root can run guests", "not installed: qemu-system-x86_64"])
def test_refused_before_anything_starts(words, why, monkeypatch, capsys):
    def no_workspace(*_arguments):
        raise AssertionError("a workspace was made")

    monkeypatch.setattr("atoll.bench.workspace.workspace", no_workspace)
    for module in (experiment, soak):
        monkeypatch.setattr(module, "obstacle", lambda: AtollError("guests.unavailable", why, "run as root"))
    assert atoll(["bench", "cloudlet", *words]) != 0
    told = capsys.readouterr().err.splitlines()
    assert told[0] == f"error: {why}"
    assert len(told) == 2
    assert told[1].startswith("hint: ")


def test_files_need_no_guests(monkeypatch):
    monkeypatch.setattr(experiment, "obstacle", lambda: AtollError("guests.unavailable", "only root can run guests", "run as root"))
    experiment.check(experiment.CloudletOptions(("synthetic", "overlay")))


def test_application_needs_an_image(tmp_path, capsys):
    (tmp_path / "app.raw").touch()
    assert atoll(["bench", "cloudlet", "--application", str(tmp_path / "app.raw")]) != 0
    assert "--application is a disk of the guest that --image names" in capsys.readouterr().err

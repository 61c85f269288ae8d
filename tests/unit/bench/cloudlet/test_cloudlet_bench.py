"""`atoll bench cloudlet` with a tiny guest, and without the programs that it would like to have."""

import filecmp
import json
from contextlib import contextmanager
from pathlib import Path

import pytest

from atoll.bench.cloudlet import data, experiment, rival
from atoll.bench.cloudlet.experiment import OverlayOptions, run
from atoll.bench.workspace import Workspace
from atoll.cli.main import run as atoll
from atoll.errors import AtollError

TINY = OverlayOptions(memory_mib=64, disk_mib=64, rounds=1)


@pytest.fixture(autouse=True)
def _no_guest_image(monkeypatch):
    def refuse(*_arguments):
        raise AtollError("image.requirement", "syslinux is missing")

    monkeypatch.setattr(experiment, "build", refuse)


def test_report(tmp_path):
    said: list[str] = []
    report = run(TINY, Workspace(tmp_path, {}, said.append), tmp_path / "cache")
    assert report["bit_exact"] is True
    assert 0 < report["overlay_mib"] < report["changed_mib"] < 64
    assert report["encode_mib_s"] > 0
    assert report["apply_s"] > 0
    assert "guest" not in report
    assert "there is no guest image: syslinux is missing" in said


def test_guest_image(tmp_path, monkeypatch):
    def build(*_arguments):
        (tmp_path / "image.img").write_bytes(b"image" * 10_000)
        return type("Built", (), {"path": tmp_path / "image.img"})

    def copy(words, **_options):
        with Path(words[2]).open("r+b") as file:
            file.write(b"application")

    monkeypatch.setattr(experiment, "build", build)
    monkeypatch.setattr(experiment.subprocess, "run", copy)
    monkeypatch.setattr(rival, "measure", lambda *_arguments: {})
    report = run(TINY, Workspace(tmp_path, {}, lambda _text: None), tmp_path / "cache")
    assert report["guest"]["bit_exact"] is True
    assert report["guest"]["changed_mib"] == 0.0


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


def test_command(tmp_path, monkeypatch, capsys):
    @contextmanager
    def workspace(_environment, _say):
        yield tmp_path

    monkeypatch.setattr("atoll.bench.workspace.workspace", workspace)
    report = {"memory_mib": 64, "overlay_mib": 1.5, "encode_mib_s": 400.0, "bit_exact": True, "guest": {"overlay_mib": 0.5}}
    monkeypatch.setattr(experiment, "run", lambda options, *_arguments: report | {"jobs": options.jobs})
    assert atoll(["bench", "cloudlet", "--jobs", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == report | {"jobs": 2}
    assert atoll(["bench", "cloudlet"]) == 0
    shown = capsys.readouterr().out
    assert "GUEST IMAGE" in shown
    assert "zstd" not in shown

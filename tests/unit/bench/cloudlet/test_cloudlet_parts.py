"""The parts of `atoll bench cloudlet` with doubles: one that fails does not lose the figures of the others."""

import http.client
from contextlib import contextmanager
from types import SimpleNamespace
from typing import ClassVar

import pytest

from atoll.bench.cloudlet import experiment, files
from atoll.bench.cloudlet.experiment import CloudletOptions, failures, run
from atoll.bench.cloudlet.moves import MoveSample
from atoll.bench.cloudlet.parts import LINKS
from atoll.bench.cloudlet.syntheses import StartSample
from atoll.bench.failure import failed
from atoll.bench.workspace import Workspace
from atoll.errors import AtollError

START = StartSample(3.0, 9.0, 0.5, exact=True)
MOVE = MoveSample(20.0, 8.0, 4.2, 4.0, exact=True)


class DoubleSites:
    """Sites that do nothing but count how often they were cleared and closed."""

    made: ClassVar[list["DoubleSites"]] = []

    def __init__(self, _cloud, memory_mib: int, disk_gib: int) -> None:
        self.size, self.cleared, self.closed = (memory_mib, disk_gib), 0, 0
        DoubleSites.made.append(self)

    def clear(self) -> None:
        self.cleared += 1

    def close(self) -> None:
        self.closed += 1


@pytest.fixture(autouse=True)
def _double_cloud(tmp_path, monkeypatch):
    image = tmp_path / "guest.img"
    image.write_bytes(b"x" * 4096)
    DoubleSites.made = []

    @contextmanager
    def cloud(_root, _environment):
        settings = SimpleNamespace(hypervisor="qemu", datapath="netdev")
        yield SimpleNamespace(settings=lambda _site: settings, wan=SimpleNamespace(describe=lambda: {"emulator": "userspace"}))

    monkeypatch.setattr(experiment, "obstacle", lambda: None)
    monkeypatch.setattr(experiment, "build", lambda *_arguments: SimpleNamespace(path=image))
    monkeypatch.setattr(experiment, "nomad_cloud", cloud)
    monkeypatch.setattr(experiment, "NomadSites", DoubleSites)
    monkeypatch.setattr(experiment, "resumes", lambda _sites: False)


def measured(monkeypatch, tmp_path, actions, say=lambda _text: None, **options):
    monkeypatch.setattr(experiment.Measurements, "_actions", lambda *_arguments, **_keywords: actions)
    root = tmp_path / "work"
    root.mkdir()
    return run(CloudletOptions(**options), Workspace(root, {}, say), tmp_path)


def raising(error: Exception):
    def act():
        raise error

    return act


def test_figures_and_facts(monkeypatch, tmp_path):
    actions = {"synthesis": lambda: START, "handoff-25mbit": lambda: MOVE}
    report = measured(monkeypatch, tmp_path, actions, parts=("synthesis", "handoff-25mbit"), repeats=2)
    assert report["synthesis_s_38mbit"] == 3.0
    assert report["handoff_down_s_25mbit"] == 8.0
    assert (report["accelerator"], report["datapath"], report["emulator"]) == ("TCG", "userspace", "userspace")
    assert (report["bit_exact"], report["failures"], report["repeats"]) == (True, {}, 2)
    assert len(report["samples"]["synthesis"]) == 2
    assert report["links"]["5mbit"] == {"rate_mbit": 5, "rtt_ms": 100, "loss": 0.01}
    assert [(sites.cleared, sites.closed, sites.size[1]) for sites in DoubleSites.made] == [(0, 1, 1)]


@pytest.mark.parametrize("error", [failed("the link is cut"), OSError("no answer"), http.client.BadStatusLine("x"), KeyError("server")])
def test_failed_part_leaves_the_others(monkeypatch, tmp_path, error):
    actions = {"usb": raising(error), "image": lambda: START}
    report = measured(monkeypatch, tmp_path, actions, parts=("usb", "image"), repeats=2)
    assert report["image_s_38mbit"] == 3.0
    assert "synthesis_usb_s" not in report
    assert len(report["failures"]["guest"]["usb"]) == 2
    assert failures(report)[0].startswith("guest: usb: ")
    assert DoubleSites.made[0].cleared == 2, "nothing of the failed part disturbs the next one"


def test_parts_that_were_not_chosen_do_not_run(monkeypatch, tmp_path):
    actions = {"usb": raising(AssertionError("it ran")), "image": lambda: START}
    report = measured(monkeypatch, tmp_path, actions, parts=("image",), repeats=1)
    assert list(report["samples"]) == ["image"]


def test_samples_are_shown_at_once_and_in_the_given_order(monkeypatch, tmp_path):
    told: list[str] = []
    actions = {"usb": lambda: START, "image": lambda: START}
    measured(monkeypatch, tmp_path, actions, told.append, parts=("image", "usb"), repeats=1)
    sample = '{"active_s": 3.0, "answer_s": 9.0, "received_mib": 0.5, "exact": true, "note": ""}'
    shown = [line for line in told if line.startswith(("guest: image", "guest: usb"))]
    assert shown == ["guest: image, 1 of 1", f"guest: image: {sample}", "guest: usb, 1 of 1", f"guest: usb: {sample}"]


def test_nothing_was_measured(monkeypatch, tmp_path):
    with pytest.raises(AtollError, match="no part could be measured: the link is cut"):
        measured(monkeypatch, tmp_path, {"usb": raising(failed("the link is cut"))}, parts=("usb",))


def test_cloud_that_does_not_start_leaves_the_figures_of_files(monkeypatch, tmp_path):
    @contextmanager
    def cloud(_root, _environment):
        raise failed("`atoll up`: no space")
        yield

    monkeypatch.setattr(experiment, "nomad_cloud", cloud)
    monkeypatch.setattr(experiment.Measurements, "_overlay", lambda *_arguments: {"overlay_mib": 0.5, "bit_exact": True})
    report = measured(monkeypatch, tmp_path, {}, parts=("overlay", "usb"))
    assert (report["overlay_mib"], report["bit_exact"]) == (0.5, True)
    assert failures(report) == ["guest: cloud: `atoll up`: no space"]


def test_image_that_can_not_be_built_leaves_the_synthetic_figures(monkeypatch, tmp_path):
    def refuse(*_arguments):
        raise AtollError("image.kernel", "there is no kernel")

    monkeypatch.setattr(experiment, "build", refuse)
    monkeypatch.setattr(files, "measure_synthetic", lambda *_arguments: {"overlay_mib": 55.3})
    report = measured(monkeypatch, tmp_path, {}, parts=("synthetic", "image"))
    assert report["synthetic"] == {"overlay_mib": 55.3}
    assert failures(report) == ["guest: disk: there is no kernel"]


@pytest.mark.parametrize(("on_files", "in_cloud"), [(True, False), (False, True)])
def test_exact_means_files_and_cloud(monkeypatch, tmp_path, on_files, in_cloud):
    monkeypatch.setattr(experiment.Measurements, "_overlay", lambda *_arguments: {"bit_exact": on_files})
    actions = {"image": lambda: StartSample(1.0, 2.0, 0.0, exact=in_cloud)}
    assert measured(monkeypatch, tmp_path, actions, parts=("overlay", "image"), repeats=1)["bit_exact"] is False


def test_another_guest_has_its_own_cloud_and_figures(monkeypatch, tmp_path):
    image = tmp_path / "debian.qcow2"
    image.write_bytes(b"image")

    def converted(_source, target, *_options):
        with target.open("wb") as file:
            file.truncate(2**31)

    monkeypatch.setattr(experiment, "convert", converted)
    report = measured(monkeypatch, tmp_path, {"image": lambda: START}, parts=("image",), repeats=1, image=image)
    assert report["image_s_38mbit"] == report["image"]["image_s_38mbit"] == 3.0
    assert (report["guest_disk_mib"], report["image"]["guest_disk_mib"]) == (0, 2048)
    assert [sites.size for sites in DoubleSites.made] == [(96, 1), (1024, 3)]


def test_overlay_of_the_guest(monkeypatch, tmp_path):
    """The commands are replaced by their functions; everything else is real."""
    from atoll.bench.cloudlet.material import OverlayMaker
    from atoll.cli.main import run as atoll

    maker = OverlayMaker.__init__
    monkeypatch.setattr(
        OverlayMaker, "__init__", lambda self, guest, directory, _atoll: maker(self, guest, directory, lambda *words: atoll(words))
    )
    options = {"parts": ("overlay",), "files": files.OverlayOptions(rounds=1)}
    report = measured(monkeypatch, tmp_path, {}, **options)
    assert report["bit_exact"] is True
    assert 0 < report["overlay_mib"] < report["changed_mib"]
    assert report["encode_mib_s"] > 0
    assert set(LINKS) == set(report["links"])

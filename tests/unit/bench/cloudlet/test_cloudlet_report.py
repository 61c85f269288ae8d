"""The figures of `atoll bench cloudlet`: medians, ratios and targets."""

import json

import pytest

from atoll.bench.cloudlet import parts
from atoll.bench.cloudlet.handoff_state import Progress
from atoll.bench.cloudlet.moves import MoveSample
from atoll.bench.cloudlet.report import figures, plain, ratios, targets
from atoll.bench.cloudlet.syntheses import StartSample


def start(active_s: float, answer_s: float, *, exact: bool = True) -> StartSample:
    return StartSample(active_s, answer_s, 0.7, exact)


def move(seconds: float, down_s: float, residue_mib: float = 4.0, cut_s: float = 0.0, *, exact: bool = True) -> MoveSample:
    return MoveSample(seconds, down_s, residue_mib + 0.5, residue_mib, exact, cut_s)


SAMPLES = {
    parts.SYNTHESIS: [start(4.0, 10.0), start(6.0, 12.0), start(5.0, 50.0)],
    parts.IMAGE: [start(10.0, 24.0)],
    "handoff-5mbit": [move(40.0, 12.0, 4.0), move(44.0, 14.0, 6.0)],
    "handoff-25mbit": [move(20.0, 9.0, 5.0)],
    parts.CUT: [move(33.0, 9.0, cut_s=10.0), move(35.0, 9.0, cut_s=10.0)],
    "snapshot-5mbit": [move(168.0, 130.0, 0.0)],
}


def test_figures_are_medians():
    found = figures(SAMPLES)
    assert found["synthesis_s_38mbit"] == 5.0
    assert found["first_answer_s"] == {"synthesis_38mbit": 12.0, "image_38mbit": 24.0}
    assert (found["handoff_s_5mbit"], found["handoff_down_s_5mbit"]) == (42.0, 13.0)
    assert (found["handoff_s_25mbit"], found["snapshot_s_5mbit"]) == (20.0, 168.0)
    assert found["residue_mib"] == 5.0
    assert "synthesis_usb_s" not in found


def test_cut_costs_what_exceeds_its_length_and_the_usual_time():
    found = figures(SAMPLES)
    assert (found["handoff_cut_s"], found["handoff_cut_extra_s"]) == (34.0, 4.0)
    alone = figures({parts.CUT: SAMPLES[parts.CUT]})
    assert alone["handoff_cut_s"] == 34.0
    assert "handoff_cut_extra_s" not in alone


@pytest.mark.parametrize("part", [parts.SYNTHESIS, "handoff-5mbit", "snapshot-5mbit"])
def test_one_disk_that_differs_is_enough(part):
    assert figures(SAMPLES)["bit_exact"] is True
    wrong = start(1.0, 2.0, exact=False) if part == parts.SYNTHESIS else move(1.0, 1.0, exact=False)
    assert figures(SAMPLES | {part: [*SAMPLES[part], wrong]})["bit_exact"] is False


def test_no_samples():
    assert figures({}) == {}
    assert ratios({}) == {}
    assert targets({}) == {}


def test_ratios_are_to_what_operators_do_today():
    assert ratios(figures(SAMPLES)) == {
        "first_answer_synthesis_to_image": 0.5,
        "active_synthesis_to_image": 0.5,
        "handoff_to_snapshot_s_5mbit": 0.25,
        "handoff_to_snapshot_down_s_5mbit": 0.1,
    }


def test_targets_of_figures_that_were_measured():
    found = targets(figures(SAMPLES))
    assert found["first_answer_s.synthesis_38mbit"] == {"wanted": 16.0, "value": 12.0, "met": True}
    assert found["handoff_down_s_5mbit"] == {"wanted": 2.0, "value": 13.0, "met": False}
    assert found["handoff_cut_extra_s"]["met"] is False
    assert "first_answer_s.synthesis_usb" not in found


def test_samples_are_plain_data():
    found = plain({parts.USB: [start(1.23456, 2.0)]})
    assert json.loads(json.dumps(found)) == {
        parts.USB: [{"active_s": 1.235, "answer_s": 2.0, "received_mib": 0.7, "exact": True, "note": ""}]
    }


def test_residues_are_told_apart_by_length_or_by_a_new_beginning():
    progress = Progress()
    assert not progress.middle.is_set()
    for length, sent in ((100, 0), (100, 50), (100, 100), (60, 0), (60, 60), (60, 0), (60, 30)):
        progress.see({"state": "copying", "progress": {"length": length, "sent": sent}})
    assert progress.lengths == [100, 60, 60]
    assert progress.middle.is_set()


def test_state_without_progress_is_no_residue():
    progress = Progress()
    for shown in ({"state": "copying"}, {"state": "fencing", "progress": {}}, {"state": "done", "progress": None}):
        progress.see(shown)
    assert progress.lengths == []
    assert not progress.middle.is_set()

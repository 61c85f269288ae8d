"""The report of the parts that need a cloud: medians, ratios to what operators do today, and targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from atoll.bench.cloudlet import parts
from atoll.bench.cloudlet.moves import MoveSample
from atoll.bench.cloudlet.syntheses import StartSample
from atoll.bench.samples import median

Samples = Mapping[str, Sequence[StartSample | MoveSample]]
"""The samples by part."""

STARTS = {
    parts.SYNTHESIS: ("synthesis_s_38mbit", "synthesis_38mbit"),
    parts.CACHED: ("synthesis_cached_s_38mbit", "synthesis_cached_38mbit"),
    parts.USB: ("synthesis_usb_s", "synthesis_usb"),
    parts.IMAGE: ("image_s_38mbit", "image_38mbit"),
}
"""For each part that starts servers, the key of the time until ACTIVE, and the name in `first_answer_s`."""

TARGETS = {
    "first_answer_s.synthesis_38mbit": 16.0,
    "first_answer_s.synthesis_cached_38mbit": 4.0,
    "first_answer_s.synthesis_usb": 4.0,
    "handoff_s_5mbit": 20.0,
    "handoff_down_s_5mbit": 2.0,
    "handoff_s_25mbit": 6.0,
    "handoff_cut_extra_s": 3.0,
}
"""The greatest wanted value, in seconds, of each figure that has a target."""


def figures(samples: Samples) -> dict[str, Any]:
    """Return the figures of all parts that have samples.

    Args:
        samples: the samples by part.
    """
    found: dict[str, Any] = {}
    answers: dict[str, float | None] = {}
    for part, (key, name) in STARTS.items():
        starts = [each for each in samples.get(part, ()) if isinstance(each, StartSample)]
        if starts:
            found[key], answers[name] = median([each.active_s for each in starts]), median([each.answer_s for each in starts])
    if answers:
        found["first_answer_s"] = answers
    for kind, named in (("handoff", parts.HANDOFFS), ("snapshot", parts.SNAPSHOTS)):
        for part, link in named.items():
            moves = _moves(samples, part)
            if moves:
                found[f"{kind}_s_{link}"] = median([each.seconds for each in moves])
                found[f"{kind}_down_s_{link}"] = median([each.down_s for each in moves])
    found |= _cut(samples) | _residue(samples)
    exact = [each.exact for each in (sample for part in samples.values() for sample in part)]
    return found | ({"bit_exact": all(exact)} if exact else {})


def ratios(found: Mapping[str, Any]) -> dict[str, float]:
    """Divide the figures of overlays and hand-offs by those of whole images and snapshots on the same link; skip missing values.

    Args:
        found: the result of `figures`.
    """
    answers = found.get("first_answer_s", {})
    pairs = {
        "first_answer_synthesis_to_image": (answers.get("synthesis_38mbit"), answers.get("image_38mbit")),
        "first_answer_cached_to_image": (answers.get("synthesis_cached_38mbit"), answers.get("image_38mbit")),
        "active_synthesis_to_image": (found.get("synthesis_s_38mbit"), found.get("image_s_38mbit")),
    }
    for link in parts.HANDOFFS.values():
        for kind in ("s", "down_s"):
            key = f"{kind}_{link}"
            pairs[f"handoff_to_snapshot_{key}"] = (found.get(f"handoff_{key}"), found.get(f"snapshot_{key}"))
    return {name: round(ours / theirs, 3) for name, (ours, theirs) in pairs.items() if ours is not None and theirs}


def targets(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return each target whose figure was measured, with the value and whether the target is met.

    Args:
        found: the result of `figures`.
    """
    flat = dict(found) | {f"first_answer_s.{name}": value for name, value in found.get("first_answer_s", {}).items()}
    return {
        name: {"wanted": wanted, "value": flat[name], "met": flat[name] <= wanted}
        for name, wanted in TARGETS.items()
        if flat.get(name) is not None
    }


def plain(samples: Samples) -> dict[str, list[dict[str, Any]]]:
    """Return the samples as plain data, with numbers rounded to three decimals."""
    return {
        part: [{name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(each).items()} for each in rows]
        for part, rows in samples.items()
    }


def _moves(samples: Samples, part: str) -> list[MoveSample]:
    return [each for each in samples.get(part, ()) if isinstance(each, MoveSample)]


def _cut(samples: Samples) -> dict[str, float | None]:
    """Return the time of a hand-off with a cut, and the part of it that exceeds the cut itself and a hand-off without a cut."""
    cut, uncut = _moves(samples, parts.CUT), _moves(samples, "handoff-25mbit")
    if not cut:
        return {}
    found = {"handoff_cut_s": median([each.seconds for each in cut])}
    usual = median([each.seconds for each in uncut])
    if usual is not None:
        found["handoff_cut_extra_s"] = median([each.seconds - each.cut_s - usual for each in cut])
    return found


def _residue(samples: Samples) -> dict[str, float | None]:
    moves = [each for part in parts.HANDOFFS for each in _moves(samples, part)]
    return {"residue_mib": median([each.residue_mib for each in moves])} if moves else {}

"""The predictions of `atoll trace whatif`, compared with runs at emulated delays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from atoll.bench.traffic.figures import error_percent
from atoll.bench.traffic.operations import Actor, TracedOperation
from atoll.trace.tree import Trace
from atoll.trace.whatif import predict

UNTIL = {"boot": "Instance.save", "attach": "", "delete": "Instance.destroy"}
"""By operation, the name of the span that completes the operation for its client; empty if the answer completes it."""


def check(actor: Actor, found: Mapping[float, Mapping[str, Sequence[TracedOperation]]]) -> list[dict[str, Any]]:
    """Predict each operation at each round-trip time, from the trace at the first round-trip time in the same round.

    Args:
        actor: a client of the cloud.
        found: samples by round-trip time in milliseconds, and by operation.

    Returns:
        For each operation and further round trip, the medians over the rounds of:

        - `predicted_ms`, `measured_ms` and `error_percent`;
        - `round_trips` and `measured_round_trips`: the sequential round trips of the predicted and of the measured trace;
        - `base_work_ms` and `measured_work_ms`: the time without these round trips, which differs if other load disturbs one of the runs;
        - `same_work_error_percent`: the error that would remain if the time without round trips had been the same in both runs;
        - `crossing_ms`: the time that a call between sites takes in addition to its work; the model assumes one round trip.
    """
    told = []
    base, *others = found
    for name, until in UNTIL.items():
        traces = {rtt: [actor.trace(sample) for sample in each[name]] for rtt, each in found.items()}
        for rtt in others:
            rounds = [_compared(at_base, at_rtt, base, rtt, until) for at_base, at_rtt in zip(traces[base], traces[rtt], strict=True)]
            told.append({
                "traffic": actor.name, "operation": name, "rtt_ms": rtt,
                **{key: round(median(each[key] for each in rounds), 1) for key in rounds[0]},
                "crossing_ms": round(median(crossing for trace in traces[rtt] for crossing in crossings(trace)), 1),
            })  # fmt: skip
    return told


def _compared(at_base: Trace, at_rtt: Trace, base: float, rtt: float, until: str) -> dict[str, float]:
    predicted, measured = predict(at_base, rtt, recorded_rtt_ms=base, until=until), predict(at_rtt, rtt, recorded_rtt_ms=rtt, until=until)
    predicted_ms = predicted.predicted_complete_ms if until else predicted.predicted_answered_ms
    measured_ms = measured.complete_ms if until else measured.answered_ms
    trips, measured_trips = ((each.round_trips_complete if until else each.round_trips_answered) for each in (predicted, measured))
    base_work_ms, measured_work_ms = predicted_ms - trips * rtt, measured_ms - measured_trips * rtt
    return {
        "predicted_ms": predicted_ms,
        "measured_ms": measured_ms,
        "error_percent": error_percent(predicted_ms, measured_ms),
        "round_trips": trips,
        "measured_round_trips": measured_trips,
        "base_work_ms": base_work_ms,
        "measured_work_ms": measured_work_ms,
        "same_work_error_percent": error_percent(predicted_ms - base_work_ms + measured_work_ms, measured_ms),
    }


def crossings(trace: Trace) -> list[float]:
    """Return the milliseconds that each answered call between sites took in addition to the time at its receiver."""
    return [
        ((node.span.end - node.span.start) - (child.span.end - child.span.start)) / 1e6
        for node in trace.walk()
        if node.span.kind == "client"
        for child in node.children
        if child.span.kind == "server" and child.span.site != node.span.site
    ]

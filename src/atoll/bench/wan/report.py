"""The values of `atoll bench wan`, computed from samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from atoll.bench.wan.chance import likely

if TYPE_CHECKING:
    from atoll.bench.wan.experiment import Samples

RTT_ERROR_MS, RTT_ERROR_PERCENT = 1.0, 2.0
"""The greatest accepted error of a round trip, in milliseconds and in percent of the round trip: the larger of the two applies."""

RATE_ERROR_PERCENT = 5.0


def summary(samples: Samples) -> dict[str, Any]:
    """Return the values of one emulator by name.

    `worst_rtt_error_ms` is the greatest error of all round trips. `worst_rtt_error_percent` is the greatest error of the long round trips,
    for which `RTT_ERROR_PERCENT` allows more than `RTT_ERROR_MS`. `loss_ok` is true if, for each requested probability, the losses of all
    pings together are within the probability's 99 % confidence interval.
    """
    errors = [(item["rtt_ms"], abs(item["measured_ms"] - item["rtt_ms"])) for item in samples.pings]
    long = [100 * error / asked for asked, error in errors if asked * RTT_ERROR_PERCENT / 100 >= RTT_ERROR_MS]
    rates = [100 * abs(item["measured_mbit"] / item["rate_mbit"] - 1) for item in samples.rates]
    losses = pooled(samples.pings)
    return {
        "worst_rtt_error_ms": round(max(error for _asked, error in errors), 3),
        "worst_rtt_error_percent": round(max(long, default=0.0), 3),
        "rtt_ok": all(rtt_right(asked, error) for asked, error in errors),
        "worst_rate_error_percent": round(max(rates, default=0.0), 3),
        "rate_ok": all(error <= RATE_ERROR_PERCENT for error in rates),
        "loss_ok": all(item["ok"] for item in losses),
        "losses": losses,
        "gbit_s": round(samples.capacity["gbit_s"], 3),
        "packets_per_s": round(samples.capacity["packets_per_s"]),
        "core_large": round(samples.capacity["core_large"], 2),
        "core_small": round(samples.capacity["core_small"], 2),
        "cut_ms": round(max(item["cut_ms"] for item in samples.cuts), 1),
        "heal_ms": round(max(item["heal_ms"] for item in samples.cuts), 1),
        "samples": asdict(samples),
    }


def rtt_right(asked_ms: float, error_ms: float) -> bool:
    """Return whether the error of a round trip is small enough."""
    return error_ms <= max(RTT_ERROR_MS, RTT_ERROR_PERCENT * asked_ms / 100)


def pooled(pings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each requested probability of loss, the losses of all pings together, and the range that chance explains."""
    found = []
    for loss in sorted({item["loss"] for item in pings}):
        same = [item for item in pings if item["loss"] == loss]
        sent, lost = sum(item["sent"] for item in same), sum(item["lost"] for item in same)
        least, most = likely(sent, loss)
        found.append({"loss": loss, "sent": sent, "lost": lost, "least": least, "most": most, "ok": least <= lost <= most})
    return found

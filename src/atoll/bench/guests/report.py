"""The report of `atoll bench guests`."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from atoll.bench.guests.memory import Memory, difference, total
from atoll.bench.guests.tenancy import Boot
from atoll.bench.guests.traffic import TrafficSample
from atoll.bench.samples import median

WANTED_MB = 120.0
"""Target for the memory of a site's data plane, in 10^6 bytes."""

GUESTS, PORTS = "guests", "ports"
"""The names of the paths through the site's switch. In the report, values of the path `guests` have names without a prefix."""

Traffic = Mapping[str, Mapping[str, Sequence[TrafficSample]]]
"""The samples by path and load."""


def summary(
    facts: Mapping[str, Any],
    boots: Sequence[Boot],
    traffic: Traffic,
    before: Mapping[str, Memory],
    after: Mapping[str, Memory],
) -> dict[str, Any]:
    """Return all numbers of the report.

    Args:
        facts: facts about the experiment.
        boots: the boots of real guests.
        traffic: the samples by path, `guests` and others.
        before: the memory of both sites (`real`, `fake`) right after their start.
        after: the memory of both sites with guests.
    """
    answered = [boot for boot in boots if boot.guest_s is not None]
    figures = {path: _figures(loads) for path, loads in traffic.items()}
    return {
        **facts,
        "http_answered": len(answered),
        "request_to_http_s": median([boot.total_s for boot in answered if boot.total_s is not None]),
        "control_plane_s": median([boot.control_s for boot in boots]),
        "guest_s": median([boot.guest_s for boot in answered if boot.guest_s is not None]),
        **{_key(path, kind): value for path, found in figures.items() for kind, value in found.items()},
        "switch_us_per_packet": _switch_us(traffic.get(PORTS, {}).get("packets", [])),
        "ratios": ratios(figures),
        **_memory(before, after),
        "samples": {
            "boots": [_rounded(asdict(boot) | {"total_s": boot.total_s}) for boot in boots],
            "traffic": {
                path: {load: [_rounded(asdict(sample)) for sample in samples] for load, samples in loads.items()}
                for path, loads in traffic.items()
            },
        },
    }


def ratios(figures: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Divide the figures of each path by those of each shorter path, and return the ratios.

    Args:
        figures: the figures by path and name, the longest path first.
    """
    paths = list(figures)
    return {
        f"{path}_to_{other}_{kind}": round(value / figures[other][kind], 4)
        for number, path in enumerate(paths)
        for other in paths[number + 1 :]
        for kind, value in figures[path].items()
        if figures[other][kind]
    }


def _figures(loads: Mapping[str, Sequence[TrafficSample]]) -> dict[str, float]:
    """Return the medians of the samples by load."""
    return {
        "tcp_gbit_s": round(statistics.median(sample.gbit_s for sample in loads["tcp"]), 4),
        "udp_gbit_s": round(statistics.median(sample.gbit_s for sample in loads["udp"]), 4),
        "packets_s": round(statistics.median(sample.packets_s for sample in loads["packets"])),
    }


def _switch_us(samples: Sequence[TrafficSample]) -> float | None:
    return median([sample.switch_us for sample in samples if sample.switch_us is not None])


def _key(path: str, kind: str) -> str:
    if path == GUESTS:
        return kind
    return f"{path}_gbit_s" if kind == "tcp_gbit_s" else f"{path}_{kind}"


def _memory(before: Mapping[str, Memory], after: Mapping[str, Memory]) -> dict[str, Any]:
    real, fake = after["real"], after["fake"]
    value = round(total(real.proportional) - total(fake.proportional), 1)
    return {
        "data_plane_mb": value,
        "data_plane_at_start_mb": round(total(before["real"].proportional) - total(before["fake"].proportional), 1),
        "data_plane_private_mb": round(total(real.private) - total(fake.private), 1),
        "memory_mb": {
            f"{site}_{when}": total(found[site].proportional) for when, found in (("at_start", before), ("booted", after)) for site in found
        },
        "data_plane_mb_by_process": difference(real.proportional, fake.proportional),
        "data_plane_private_mb_by_process": difference(real.private, fake.private),
        "targets": {"data_plane_mb": {"wanted": WANTED_MB, "value": value, "met": value <= WANTED_MB}},
    }


def _rounded(fields: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 4) for name, value in fields.items()}

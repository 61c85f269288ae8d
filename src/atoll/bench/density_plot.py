"""A plot of the growth of costs with the number of sites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_PANELS = (("ready_s", "seconds to all ready"), ("memory_mb", "memory, MB"), ("idle_cpu_percent", "idle, % of one core"))


def draw(samples: Sequence[Mapping[str, Any]], exponents: Mapping[str, float], path: Path) -> None:
    """Plot each cost against the number of sites on logarithmic axes, where a power law is a straight line.

    Args:
        samples: the samples that `density.run` returns.
        exponents: the exponents of the fitted power laws by cost; may be empty.
        path: the path of the SVG file.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - the import takes a second, and only a plot needs it
    from matplotlib.ticker import ScalarFormatter  # noqa: PLC0415 - as above

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    for axes, (name, title) in zip(figure.subplots(1, len(_PANELS)), _PANELS, strict=True):
        sites = [sample["sites"] for sample in samples]
        axes.plot(sites, [sample[name] for sample in samples], "o-", color="#2563eb")
        axes.set(xscale="log", yscale="log", xlabel="full sites", title=title)
        axes.set_xticks(sites, minor=False)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(ScalarFormatter())
        axes.minorticks_off()
        axes.grid(visible=True, alpha=0.3)
        if name in exponents:
            axes.annotate(f"grows like sites$^{{{exponents[name]}}}$", (0.05, 0.9), xycoords="axes fraction")
    figure.savefig(path, format="svg")

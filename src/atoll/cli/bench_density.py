"""`atoll bench density`: measures how many sites a machine holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atoll.cli.bench_runs import measure, parse_sizes, print_report
from atoll.cli.verb import json_option, verb

if TYPE_CHECKING:
    from rich.table import Table

_SECONDS = click.FloatRange(min=0)


@verb("density", "atoll bench density --sites 20\natoll bench density --sites 1,5,10,20,40 --svg density.svg")
@click.option("--sites", default="1,5,10,20,40", show_default=True, metavar="N[,N]...", help="Numbers of full sites, each in a new cloud.")
@click.option("--settle", type=_SECONDS, default=20, show_default=True, help="Seconds of rest before the idle sites are measured.")
@click.option("--idle", type=_SECONDS, default=30, show_default=True, help="Seconds for which the idle sites are measured.")
@click.option("--svg", type=click.Path(path_type=Path, dir_okay=False), help="Draw the growth of the costs into this file.")
@json_option
def density(*, as_json: bool, sites: str, settle: float, idle: float, svg: Path | None) -> None:
    """Measure the costs of many full sites on this machine, each in its own network: start time, memory, idle processor time.

    With several numbers of sites, the growth of each cost is fitted: an exponent of 1 means a cost in proportion to the sites.
    """
    from atoll.bench.density import DensityOptions, run

    report = measure(run, DensityOptions(parse_sizes(sites), settle, idle))
    if svg is not None:
        from atoll.bench.density_plot import draw

        draw(report.get("samples", [report]), report.get("exponents", {}), svg)
    print_report(report, lambda: _table(report), as_json=as_json)


def _table(report: dict[str, Any]) -> Table:
    from atoll.cli.output import new_table

    titles = ("SITES", "READY S", "MEMORY MB", "PER SITE MB", "IDLE CPU %", "PER SITE %")
    table = new_table(*titles, numbers=titles)
    for sample in report.get("samples", [report]):
        names = ("sites", "ready_s", "memory_mb", "memory_per_site_mb", "idle_cpu_percent", "idle_cpu_percent_per_site")
        table.add_row(*(str(sample[name]) for name in names))
    exponents = report.get("exponents", {})
    if exponents:
        shown = (exponents.get(name, "") for name in ("ready_s", "memory_mb", "", "idle_cpu_percent", ""))
        table.add_row("growth ^", *map(str, shown))
    return table

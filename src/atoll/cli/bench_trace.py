"""`atoll bench trace`: measures the cost of recording requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from atoll.cli.bench_runs import measure, print_report
from atoll.cli.verb import json_option, verb

if TYPE_CHECKING:
    from rich.table import Table

_COUNT = click.IntRange(min=1)

KEYS = {
    "reads_per_s": "reads per second",
    "reads_ratio": "reads per second, divided by those without tracing",
    "boot_and_delete_s": "seconds for a boot and a deletion",
    "boots_ratio": "boots and deletions per second, divided by those without tracing",
    "processor_s": "processor seconds of a turn",
    "processor_ratio": "processor seconds, divided by those without tracing",
    "memory_mb": "memory, MB",
    "memory_ratio": "memory, divided by that without tracing",
    "spans": "spans in the store at the end",
}
"""Descriptions of the measured values by their names in the JSON, in the order of the table."""


@verb("trace", "atoll bench trace\natoll bench trace --rounds 3 --json")
@click.option("--rounds", type=_COUNT, default=10, show_default=True, help="Number of rounds, with one turn of each site.")
@click.option("--requests", type=_COUNT, default=200, show_default=True, help="Number of reads in a turn.")
@click.option("--clients", type=_COUNT, default=4, show_default=True, help="Number of clients that send the reads at once.")
@click.option("--boots", type=_COUNT, default=4, show_default=True, help="Number of servers that are booted and deleted in a turn.")
@json_option
def trace(*, as_json: bool, **options: Any) -> None:
    """Measure the throughput and the memory of a site that records no requests, 1 % and 100 % of the requests.

    Three sites do the same work in turn, so that other load affects them alike. The ratios mean most. With --json, the last line is one
    JSON object.
    """
    from atoll.bench.tracing import TraceOptions, run

    report = measure(run, TraceOptions(**options))
    print_report(report, lambda: _table(report), as_json=as_json)


def _table(report: dict[str, Any]) -> Table:
    from atoll.bench.tracing import MODES
    from atoll.cli.output import new_table

    titles = [mode.upper().replace("_PERCENT", " %") for mode in MODES]
    table = new_table("", *titles, numbers=titles)
    for key, meaning in KEYS.items():
        table.add_row(meaning, *(str(report[mode].get(key, "")) for mode in MODES))
    return table

"""`atoll bench flood`: measures a cloud under attack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from atoll.cli.bench_runs import measure, print_report
from atoll.cli.verb import json_option, verb

if TYPE_CHECKING:
    from rich.table import Table

_COUNT = click.IntRange(min=1)
_SITES = click.IntRange(min=2)

KEYS = {
    "attacked_p50_ratio": "median latency at the attacked site, divided by that without an attack",
    "attacked_p99_ratio": "99th percentile at the attacked site, likewise",
    "others_p50_ratio": "median latency at the other sites, likewise",
    "others_p99_ratio": "99th percentile at the other sites, likewise",
    "each_p50_ratio": "median latency while all sites are attacked, likewise",
    "each_p99_ratio": "99th percentile while all sites are attacked, likewise",
    "calm_p50_ms": "median latency without an attack, ms",
    "calm_p99_ms": "99th percentile without an attack, ms",
    "honest_failures": "honest requests that failed during attacks",
    "rubbish_requests": "requests of the attacker",
    "slow_connections": "greatest number of connections that the attacker held at a site",
}
"""Descriptions of the measured values by their names in the JSON, in the order of the table."""


@verb("flood", "atoll bench flood\natoll bench flood --rounds 1 --seconds 10 --json")
@click.option("--sites", type=_SITES, default=3, show_default=True, help="Number of full sites.")
@click.option("--rounds", type=_COUNT, default=3, show_default=True, help="Number of rounds: no attack, one site attacked, all attacked.")
@click.option("--seconds", type=click.FloatRange(min=5), default=20, show_default=True, help="Seconds for each of these phases.")
@click.option("--slow", type=click.IntRange(0, 1000), default=200, show_default=True, help="Slow or idle connections to an attacked site.")
@click.option("--rate", type=click.FloatRange(1, 2000), default=1000, show_default=True, help="Requests a second to an attacked site.")
@click.option("--sources", type=click.IntRange(1, 200), default=20, show_default=True, help="Number of source addresses.")
@json_option
def flood(*, as_json: bool, **options: Any) -> None:
    """Flood public ports with slow connections and invalid requests, without a token, and measure the effect on honest clients.

    All traffic stays in the networks of the experiment's own sites. With --json, the last line is one JSON object.
    """
    from atoll.bench.flood.experiment import FloodOptions, run

    report = measure(run, FloodOptions(**options))
    print_report(report, lambda: _table(report), as_json=as_json)


def _table(report: dict[str, Any]) -> Table:
    from atoll.cli.output import new_table

    table = new_table(header=False)
    for key, meaning in KEYS.items():
        table.add_row(meaning, str(report[key]))
    return table

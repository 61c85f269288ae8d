"""`atoll bench shared-boots`: boots servers through all sites that share one Nova."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from atoll.cli.bench_runs import measure, parse_sizes, print_report
from atoll.cli.verb import json_option, verb

if TYPE_CHECKING:
    from rich.table import Table

_COUNT = click.IntRange(min=1)

KEYS = {
    "boots": "boots",
    "failures": "boots that failed",
    "missing": "servers that the list of a site lacks",
    "twice": "servers that the list of a site has twice",
    "pairs": "pairs of an API's site and a host's site with a successful boot",
    "boots_per_s": "boots per second",
    "boot_p50_s": "median time of a boot, s",
    "boot_p99_s": "99th percentile, s",
    "reasons": "reasons of failures",
}
"""Descriptions of the measured values by their names in the JSON, without the number of sites at their end."""


@verb("shared-boots", "atoll bench shared-boots\natoll bench shared-boots --sites 2 --boots 20 --json")
@click.option("--boots", type=_COUNT, default=500, show_default=True, help="Number of boots in each cloud.")
@click.option("--sites", default="2,4,8", show_default=True, help="Numbers of sites, separated by commas.")
@click.option("--at-once", type=_COUNT, default=8, show_default=True, help="Number of boots at the same time, over all sites.")
@click.option("--rtt", "rtt_ms", type=click.FloatRange(0, 1000), default=10, show_default=True, help="Round trip between two sites, in ms.")
@json_option
def shared_boots(*, as_json: bool, boots: int, sites: str, at_once: int, rtt_ms: float) -> int:
    """Boot servers through the APIs of sites that share one Nova over Redis, on the hosts of all of them.

    The exit code is 1 if a boot failed, or if the list of a site lacks a server or has one twice. The clients enter the networks of the
    sites, which needs root. With --json, the last line is one JSON object.
    """
    from atoll.bench.failure import failed
    from atoll.bench.shared_boots import SharedBootsOptions, run

    sizes = parse_sizes(sites)
    if min(sizes) < 2:
        raise click.BadParameter(f"expected at least 2 sites, which share a database, got {min(sizes)}", param_hint="--sites")
    report = measure(run, SharedBootsOptions(boots, sizes, at_once, rtt_ms))
    print_report(report, lambda: _table(report, sizes), as_json=as_json)
    sys.stdout.flush()
    bad = {f"{key}_{size}": report[f"{key}_{size}"] for size in sizes for key in ("failures", "missing", "twice")}
    if any(bad.values()):
        raise failed(", ".join(f"{name}: {count}" for name, count in bad.items() if count))
    return 0


def _table(report: Mapping[str, Any], sizes: tuple[int, ...]) -> Table:
    from atoll.cli.output import new_table

    titles = [f"{size} SITES" for size in sizes]
    table = new_table("", *titles, numbers=titles, wrapped=("",))
    for key, meaning in KEYS.items():
        table.add_row(meaning, *(str(report[f"{key}_{size}"]) for size in sizes))
    return table

"""`atoll bench hollow`: measures the mesh with many members that have no OpenStack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from atoll.cli.bench_runs import measure, print_report
from atoll.cli.verb import json_option, verb

if TYPE_CHECKING:
    from rich.table import Table

_SECONDS = click.FloatRange(min=0)

KEYS = {
    "converged_s": "seconds until every member reaches all others",
    "idle_out_bits_s": "idle bits per second that a member sends",
    "idle_in_bits_s": "idle bits per second that it receives",
    "idle_cpu_percent": "idle processor time of a member, % of a core",
    "node_mb": "memory of a member's node, MB",
    "replica_mb": "memory of a replica of its own, MB",
    "reconnected_s": "seconds to converge after all links were cut",
    "requests": "requests through gateways meanwhile",
    "request_errors": "of these, answered with 5xx or not at all",
    "death_known_s": "seconds until a death is known to all",
}
"""Descriptions of the numbers, in the order of the table."""


@verb("hollow", "atoll bench hollow --sites 200\natoll bench hollow --json")
@click.option("--sites", type=click.IntRange(2, 5000), default=1000, show_default=True, help="Number of members.")
@click.option("--gateways", type=click.IntRange(0, 100), default=5, show_default=True, help="Number of members with a real gateway.")
@click.option(
    "--settle", "settle_s", type=_SECONDS, default=20, show_default=True, help="Seconds of rest before the idle members are measured."
)
@click.option("--idle", "idle_s", type=click.FloatRange(min=1), default=60, show_default=True, help="Seconds for which they are measured.")
@click.option("--cut", "cut_s", type=_SECONDS, default=200, show_default=True, help="Seconds for which all links are cut.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the members' random choices.")
@json_option
def hollow(*, as_json: bool, sites: int, gateways: int, **options: Any) -> None:
    """Run many members with the real mesh node in one process, without OpenStack, and measure how they find each other.

    Links are in memory, with a round trip of 20 ms; the bytes that a real link adds are measured first. A hub with heartbeats, which gives
    the same information, runs after it. With --json, the last line is one JSON object.
    """
    from atoll.bench.hollow.experiment import HollowOptions, run

    report = measure(run, HollowOptions(sites, min(gateways, sites - 1), **options))
    print_report(report, lambda: _table(report), as_json=as_json)


def _table(report: Mapping[str, Any]) -> Table:
    from atoll.cli.output import new_table

    table = new_table("", "MESH", "HUB", "RATIO", numbers=("MESH", "HUB", "RATIO"), wrapped=("",))
    for key, meaning in KEYS.items():
        shown = (report[key], report["hub"].get(key, ""), report["ratios"].get(key, ""))
        table.add_row(meaning, *map(str, shown))
    return table

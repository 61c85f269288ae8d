"""`atoll bench flood`."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from atoll.cli.experiment import client_environment, say
from atoll.cli.verb import json_option, verb

_COUNT = click.IntRange(min=1)
_SITES = click.IntRange(min=2)

KEYS = {
    "attacked_p50_ratio": "median at a site that is attacked, against the same when it is not",
    "attacked_p99_ratio": "99th percentile there",
    "others_p50_ratio": "median at the other sites meanwhile",
    "others_p99_ratio": "99th percentile there",
    "each_p50_ratio": "median when each site is attacked",
    "each_p99_ratio": "99th percentile then",
    "calm_p50_ms": "median when none is, ms",
    "calm_p99_ms": "99th percentile then, ms",
    "honest_failures": "honest requests that failed during attacks",
    "rubbish_requests": "requests of the attacker",
    "slow_connections": "connections that the attacker held at a site, at most",
}
"""The numbers for a person, in the order they are shown."""


@verb("flood", "atoll bench flood\natoll bench flood --rounds 1 --seconds 10 --json")
@click.option("--sites", type=_SITES, default=3, show_default=True, help="How many full sites.")
@click.option("--rounds", type=_COUNT, default=3, show_default=True, help="How often calm, one site attacked, and each take turns.")
@click.option("--seconds", type=click.FloatRange(min=5), default=20, show_default=True, help="For which each of them lasts.")
@click.option("--slow", type=click.IntRange(0, 1000), default=200, show_default=True, help="Slow or idle connections at an attacked site.")
@click.option("--rate", type=click.FloatRange(1, 2000), default=1000, show_default=True, help="Requests a second at an attacked site.")
@click.option("--sources", type=click.IntRange(1, 200), default=20, show_default=True, help="Addresses that they come from.")
@json_option
def flood(*, as_json: bool, **options: Any) -> None:  # noqa: ANN401, RUF100
    """Flood public ports with slow connections and rubbish, without any token, and measure what honest clients notice.

    All traffic stays in the networks of the experiment's own sites. With --json, one JSON object is the last line.
    """
    from atoll.bench.flood.experiment import Options, run
    from atoll.bench.workspace import workspace

    with workspace(say) as root:
        report = run(Options(**options), root, client_environment(os.environ), say)
    if as_json:
        print(json.dumps(report))
        return
    from rich.table import Table

    from atoll.cli.output import data_console

    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for key, meaning in KEYS.items():
        table.add_row(meaning, str(report[key]))
    data_console().print(table)

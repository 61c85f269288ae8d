"""`atoll bench stores`: measures database engines at several distances from their servers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from atoll.cli.bench_runs import measure, print_report
from atoll.cli.verb import json_option, verb

if TYPE_CHECKING:
    from rich.table import Table


class _RoundTrips(click.ParamType[tuple[int, ...]]):
    """Round-trip times, separated by commas."""

    name = "MS,MS,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the round-trip times in milliseconds."""
        if isinstance(value, tuple):
            return value
        words = value.split(",")
        if not all(word.isascii() and word.isdigit() and int(word) <= 1000 for word in words) or len(set(words)) < len(words):
            self.fail(f"{value!r} is not a list of different whole milliseconds up to 1000, such as 0,10,50", param, ctx)
        return tuple(map(int, words))


@verb("stores", "atoll bench stores\natoll bench stores --rtt 0,50 --rounds 1 --seconds 4 --boots 0 --json")
@click.option("--rtt", type=_RoundTrips(), default="0,10,50", show_default=True, help="Round-trip times to the server, in milliseconds.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Number of repetitions; the report has medians.")
@click.option("--seconds", type=click.FloatRange(min=1), default=8, show_default=True, help="Seconds for each engine and round trip.")
@click.option("--boots", type=click.IntRange(min=0), default=3, show_default=True, help="Servers that each site boots; 0 starts no site.")
@json_option
def stores(*, as_json: bool, rtt: tuple[int, ...], rounds: int, seconds: float, boots: int) -> None:
    """Compare database engines: SQLite, Redis with a replica at the site, MariaDB and PostgreSQL (docs/stores.md).

    The same code uses all engines through SQLAlchemy, alternately, with one writer and with 16. Then a site of each engine boots servers.
    Each server is configured as a site configures it (`database: {start: …}`). With --json, the last line is one JSON object.
    """
    from atoll.bench.stores.engine import check_requirements
    from atoll.bench.stores.experiment import StoreOptions, run

    check_requirements()
    report = measure(run, StoreOptions(rtt, rounds, seconds, boots))
    print_report(report, lambda: _table(report, rtt), as_json=as_json)


def _table(report: Mapping[str, float | None], round_trips: tuple[int, ...]) -> Table:
    from atoll.bench.stores.experiment import ENGINES, rows
    from atoll.cli.output import new_table

    engines = [engine.upper() for engine in ENGINES]
    table = new_table("", "RTT MS", *engines, "WANTED", numbers=("RTT MS", *engines))
    for row in rows(report, round_trips):
        table.add_row(*row)
    return table

"""`atoll bench bus` and `atoll bench bus-loss`: measure the message bus through oslo.messaging."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from atoll.cli.bench_runs import measure, print_report
from atoll.cli.verb import json_option, verb

if TYPE_CHECKING:
    from rich.table import Table


class _Sizes(click.ParamType[tuple[int, ...]]):
    """Numbers of clients, separated by commas."""

    name = "N,N,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the numbers of clients."""
        if isinstance(value, tuple):
            return value
        try:
            sizes = tuple(int(word) for word in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as 1,10,100", param, ctx)
        if min(sizes) < 1 or len(set(sizes)) < len(sizes):
            self.fail(f"{value!r}: expected different numbers, each at least 1", param, ctx)
        return sizes


_COUNT = click.IntRange(min=1)
_ABOVE_ZERO = click.FloatRange(min=0, min_open=True)


@verb("bus", "atoll bench bus\natoll bench bus --clients 1,100 --rounds 1 --against none --json")
@click.option("--clients", type=_Sizes(), default="1,10,100,1000", show_default=True, help="Numbers of clients, each of which is measured.")
@click.option("--rounds", type=_COUNT, default=3, show_default=True, help="Number of repetitions; the report has medians.")
@click.option("--seconds", type=_ABOVE_ZERO, default=3, show_default=True, help="Seconds for the calls, and as many for the casts.")
@click.option("--against", type=click.Choice(["rabbit", "none"]), default="rabbit", show_default=True, help="Transport to compare with.")
@json_option
def bus(*, as_json: bool, clients: tuple[int, ...], rounds: int, seconds: float, against: str) -> None:
    """Compare the transports zenoh:// and rabbit://: the rates and times of calls and casts of 1 kB, memory, and processor time.

    The same code uses both transports through oslo.messaging, alternately. With --json, the last line is one JSON object.
    """
    from atoll.bench.bus.broker import check_requirements
    from atoll.bench.bus.report import summary
    from atoll.bench.bus.speed import SpeedOptions, run

    if against == "rabbit":
        check_requirements()
    options = SpeedOptions(clients, rounds, seconds, None if against == "none" else against)
    report = summary(measure(run, options))
    print_report(report, lambda: _table(report, clients), as_json=as_json)


@verb("bus-loss", "atoll bench bus-loss\natoll bench bus-loss --casts 100000 --journal off --json")
@click.option("--casts", type=_COUNT, default=1_000_000, show_default=True, help="Number of casts.")
@click.option("--transport", type=click.Choice(["zenoh", "rabbit"]), default="zenoh", show_default=True, help="The transport to test.")
@click.option(
    "--journal",
    type=click.Choice(["on", "off"]),
    default="on",
    show_default=True,
    help="Whether servers of zenoh:// write acknowledged messages to the disk until they execute them.",
)
@click.option("--interval", "interval_s", type=_ABOVE_ZERO, default=2, show_default=True, help="Seconds between two restarts, on average.")
@click.option("--kill", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Share of the restarts that use SIGKILL.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the random restarts.")
@json_option
def bus_loss(*, as_json: bool, transport: str, journal: str, interval_s: float, **counts: Any) -> None:
    """Cast while servers are restarted and killed, and count casts that were lost or executed twice.

    The exit code is 1 if an acknowledged cast was never executed, or a cast was executed twice.
    """
    from atoll.bench.bus.broker import check_requirements
    from atoll.bench.bus.loss import LossOptions, run
    from atoll.bench.failure import failed

    if transport == "rabbit":
        check_requirements()
    options = LossOptions(name=transport, journal=journal == "on", interval_s=interval_s, **counts)
    outcome = measure(run, options)
    if as_json:
        print(json.dumps(outcome.to_json()))
    else:
        for name, value in outcome.to_json().items():
            click.echo(f"{name:20} {value}")
    sys.stdout.flush()
    if outcome.bad:
        raise failed("; ".join(outcome.bad))


def _table(report: Mapping[str, Any], clients: tuple[int, ...]) -> Table:
    from atoll.bench.bus.report import rows
    from atoll.cli.output import new_table

    titles = ["CLIENTS", "", "ZENOH", "RABBIT", "RATIO", "WANTED"]
    chosen = [index for index in range(len(titles)) if index not in (3, 4) or "rabbit" in report]
    table = new_table(*(titles[index] for index in chosen), numbers=("CLIENTS", "ZENOH", "RABBIT", "RATIO"), wrapped=titles)
    for row in rows(report, clients):
        table.add_row(*(row[index] for index in chosen))
    return table

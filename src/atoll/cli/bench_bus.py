"""`atoll bench bus` and `atoll bench bus-loss`: the message bus, measured through oslo.messaging."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import click

from atoll.cli.experiment import client_environment, say
from atoll.cli.verb import json_option, verb


class _Sizes(click.ParamType[tuple[int, ...]]):
    """Numbers of clients, with commas between them."""

    name = "N,N,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:  # noqa: ANN401, RUF100
        """The numbers."""
        if isinstance(value, tuple):
            return value
        try:
            sizes = tuple(int(word) for word in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as 1,10,100", param, ctx)
        if min(sizes) < 1 or len(set(sizes)) < len(sizes):
            self.fail(f"{value!r}: each number is to be at least 1, and different", param, ctx)
        return sizes


_COUNT = click.IntRange(min=1)
_ABOVE_ZERO = click.FloatRange(min=0, min_open=True)


@verb("bus", "atoll bench bus\natoll bench bus --clients 1,100 --rounds 1 --against none --json")
@click.option("--clients", type=_Sizes(), default="1,10,100,1000", show_default=True, help="How many clients; each number is measured.")
@click.option("--rounds", type=_COUNT, default=3, show_default=True, help="How often everything is measured; medians count.")
@click.option("--seconds", type=_ABOVE_ZERO, default=3, show_default=True, help="For which calls count, and again casts.")
@click.option("--against", type=click.Choice(["rabbit", "none"]), default="rabbit", show_default=True, help="What to compare with.")
@json_option
def bus(*, as_json: bool, clients: tuple[int, ...], rounds: int, seconds: float, against: str) -> None:
    """Compare zenoh:// with rabbit://: calls and casts of 1 KB, their times, memory and processor time.

    Both are used by the same code, through oslo.messaging, in turns. With --json, one JSON object is the last line.
    """
    from atoll.bench.bus.broker import check_requirements
    from atoll.bench.bus.report import summary
    from atoll.bench.bus.speed import Options, run
    from atoll.bench.workspace import workspace

    if against == "rabbit":
        check_requirements()
    options = Options(clients, rounds, seconds, None if against == "none" else against)
    with workspace(say) as root:
        report = summary(run(options, root, client_environment(os.environ), say))
    if as_json:
        print(json.dumps(report))
    else:
        _print(report, clients)


@verb("bus-loss", "atoll bench bus-loss\natoll bench bus-loss --casts 100000 --journal off --json")
@click.option("--casts", type=_COUNT, default=1_000_000, show_default=True, help="How many.")
@click.option("--transport", type=click.Choice(["zenoh", "rabbit"]), default="zenoh", show_default=True, help="Over which.")
@click.option(
    "--journal",
    type=click.Choice(["on", "off"]),
    default="on",
    show_default=True,
    help="Whether servers of zenoh:// keep on the disk what they acknowledged and have not begun.",
)
@click.option("--interval", type=_ABOVE_ZERO, default=2, show_default=True, help="Seconds between two restarts, on average.")
@click.option("--kill", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="The share of restarts that are by SIGKILL.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the restarts.")
@json_option
def bus_loss(*, as_json: bool, transport: str, journal: str, interval: float, **counts: Any) -> None:  # noqa: ANN401, RUF100
    """Cast while servers are restarted and killed, and count what was lost and what was executed twice.

    It ends with exit code 1 if a cast that was acknowledged was never executed, or any was executed twice.
    """
    from atoll.bench.bus.broker import check_requirements
    from atoll.bench.bus.loss import Options, run
    from atoll.bench.measure import failed
    from atoll.bench.workspace import workspace

    if transport == "rabbit":
        check_requirements()
    options = Options(name=transport, journal=journal == "on", interval_s=interval, **counts)
    with workspace(say) as root:
        outcome = run(options, root, client_environment(os.environ), say)
    if as_json:
        print(json.dumps(outcome.to_json()))
    else:
        for name, value in outcome.to_json().items():
            click.echo(f"{name:20} {value}")
    sys.stdout.flush()
    if outcome.bad:
        raise failed("; ".join(outcome.bad))


def _print(report: Mapping[str, Any], clients: tuple[int, ...]) -> None:
    from rich.table import Table

    from atoll.bench.bus.report import rows
    from atoll.cli.output import data_console

    titles = ["CLIENTS", "", "ZENOH", "RABBIT", "RATIO", "WANTED"]
    chosen = [index for index in range(len(titles)) if index not in (3, 4) or "rabbit" in report]
    table = Table(box=None, padding=(0, 2, 0, 0))
    for index in chosen:
        table.add_column(titles[index], justify="right" if index in (0, 2, 3, 4) else "left")
    for row in rows(report, clients):
        table.add_row(*(row[index] for index in chosen))
    data_console().print(table)

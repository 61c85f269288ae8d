"""`atoll bench traffic`: counts the control traffic of operations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from atoll.cli.bench_runs import measure
from atoll.cli.verb import json_option, verb


def _numbers(text: str, option: str, least: float) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part.removesuffix("ms")) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < least or len(set(numbers)) < len(numbers):
        raise click.BadParameter(f"expected different numbers separated by commas, such as 1,10,100, got {text}", param_hint=option)
    return tuple(sorted(numbers))


@verb("traffic", "atoll bench traffic --json\natoll bench traffic --traffic reduced --rtt 0,100 --guests 1,1000")
@click.option("--rtt", default="0,20,50,100,200", show_default=True, help="Round trips to the compute site, in milliseconds.")
@click.option(
    "--guests", default="1,10", show_default=True, help="Numbers of guests of the host whose periodic task, and boot, is measured."
)
@click.option(
    "--repeats", type=click.IntRange(1, 50), default=2, show_default=True, help="Number of times that each operation is measured."
)
@click.option(
    "--traffic", "chosen", type=click.Choice(("stock", "reduced", "both")), default="both", show_default=True, help="The clouds to measure."
)
@json_option
def traffic(*, as_json: bool, rtt: str, guests: str, repeats: int, chosen: str) -> None:
    """Count calls, messages, statements and bytes of operations, with upstream's own control traffic and with Atoll's reduced traffic.

    Two clouds run at the same time, and are measured in turns. The counts are from traces (`atoll trace`). At a compute site, the slope
    of the latency over the round trip is the number of sequential round trips. The command needs root, because its clients enter the
    clouds' networks.
    """
    from atoll.bench.traffic.experiment import TrafficOptions, run
    from atoll.bench.traffic.periodic import MAX_GUESTS
    from atoll.bench.traffic.stage import VARIANTS

    numbers = tuple(map(int, _numbers(guests, "--guests", 1)))
    if numbers[-1] > MAX_GUESTS:
        raise click.BadParameter(f"expected at most {MAX_GUESTS} guests, got {numbers[-1]}", param_hint="--guests")
    options = TrafficOptions(_numbers(rtt, "--rtt", 0), numbers, repeats, VARIANTS if chosen == "both" else (chosen,))
    report = measure(run, options)
    if as_json:
        print(json.dumps(report))
    else:
        _print(report)


_COLUMNS = {
    "neutron_calls": "NEUTRON", "placement_calls": "PLACEMENT", "http_calls": "HTTP", "rpc_messages": "RPC", "sql_statements": "SQL",
    "bytes": "BYTES", "cpu_s": "CPU S", "wall_s": "WALL S", "round_trips": "ROUND TRIPS",
}  # fmt: skip
"""The columns of the table by figure; each cell has the figure with stock traffic, then with reduced traffic, if both were measured."""


def _print(report: Mapping[str, Any]) -> None:
    from atoll.cli.output import data_console, new_table

    table = new_table("STOCK -> REDUCED", *_COLUMNS.values(), numbers=tuple(_COLUMNS.values()))
    parts = (
        ("operations", "{}"), ("far", "{}, compute site"), ("periodic", "update of a host with {} guests"),
        ("crowded", "boot on a host with {} guests"),
    )  # fmt: skip
    for part, title in parts:
        for name, figures in report[part].items():
            table.add_row(title.format(name), *(_cell(figures, column) for column in _COLUMNS))
    data_console().print(table)
    for each in report["whatif"]:
        click.echo(
            f"what-if, {each['traffic']}: {each['operation']} at {each['rtt_ms']:g} ms: predicted {each['predicted_ms']:.0f} ms, "
            f"measured {each['measured_ms']:.0f} ms ({each['error_percent']:+.1f} %)"
        )


def _cell(figures: Mapping[str, Any], column: str) -> str:
    from atoll.bench.report import text

    pair = [figures[variant].get(column) for variant in ("stock", "reduced") if variant in figures]
    return "" if set(pair) == {None} else " -> ".join(map(text, pair))

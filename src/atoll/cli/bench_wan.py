"""`atoll bench wan`: measures the emulated links with ping and iperf3."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from atoll.cli.bench_runs import measure
from atoll.cli.verb import json_option, verb

_COUNT = click.IntRange(min=1)


@verb("wan", "atoll bench wan\natoll bench wan --packets 100 --seconds 2 --json")
@click.option("--packets", type=_COUNT, default=400, show_default=True, help="Number of pings for each round trip and each loss.")
@click.option("--seconds", type=click.FloatRange(min=2), default=4, show_default=True, help="Seconds for each rate.")
@click.option("--cuts", type=_COUNT, default=3, show_default=True, help="Number of cuts and heals.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the userspace emulator's random losses.")
@json_option
def wan(*, as_json: bool, packets: int, seconds: float, cuts: int, seed: int) -> None:
    """Compare the properties of emulated links with those that ping and iperf3 measure, for every emulator that this machine supports.

    Round trips are 0, 1, 20, 100 and 300 ms, losses 0, 1 and 5 %, rates 10, 100 and 1000 Mbit/s. The throughput of an unlimited link and
    the time of a cut with packets in transit are measured too. With --json, the last line is one JSON object.
    """
    from atoll.bench.wan.experiment import EmulationOptions, run
    from atoll.bench.wan.programs import check_programs

    check_programs()
    report = measure(run, EmulationOptions(packets=packets, seconds=seconds, cuts=cuts, seed=seed))
    if as_json:
        print(json.dumps(report))
    else:
        _print(report)


def _print(report: Mapping[str, Any]) -> None:
    from atoll.bench.wan.experiment import EMULATORS, as_table
    from atoll.cli.output import data_console, new_table

    for name in EMULATORS:
        if "skipped" in report[name]:
            click.echo(f"emulator {name}: skipped: {report[name]['skipped']}")
    click.echo(f"emulator {report['emulator']}:")
    table = new_table("", "EXPECTED", "MEASURED", numbers=("EXPECTED", "MEASURED"), wrapped=("",))
    for row in as_table(report):
        table.add_row(*row)
    for key, value in report.items():
        if not isinstance(value, list | dict) and key != "emulator":
            table.add_row(key, "", str(value))
    data_console().print(table)

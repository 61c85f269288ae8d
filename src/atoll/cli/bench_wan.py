"""`atoll bench wan`: the emulated links, measured with ping and iperf3."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from atoll.cli.experiment import say
from atoll.cli.verb import json_option, verb

_COUNT = click.IntRange(min=1)


@verb("wan", "atoll bench wan\natoll bench wan --packets 100 --seconds 2 --json")
@click.option("--packets", type=_COUNT, default=400, show_default=True, help="Pings for each round trip and each loss.")
@click.option("--seconds", type=click.FloatRange(min=2), default=4, show_default=True, help="For which each rate is measured.")
@click.option("--cuts", type=_COUNT, default=3, show_default=True, help="How often to cut and heal.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of what the userspace emulator loses.")
@json_option
def wan(*, as_json: bool, packets: int, seconds: float, cuts: int, seed: int) -> None:
    """Compare what is asked of a link with what ping and iperf3 measure, with every emulator that this machine can have.

    Round trips of 0, 1, 20, 100, 300 ms; losses of 0, 1, 5 %; rates of 10, 100, 1000 Mbit/s; how much a link carries that does nothing to
    packets; how long a cut takes, with packets under way. With --json, one JSON object is the last line.
    """
    from atoll.bench.wan.experiment import Options, run
    from atoll.bench.wan.programs import check_programs
    from atoll.bench.workspace import workspace

    check_programs()
    with workspace(say) as root:
        report = run(Options(packets=packets, seconds=seconds, cuts=cuts, seed=seed), root, say)
    if as_json:
        print(json.dumps(report))
    else:
        _print(report)


def _print(report: Mapping[str, Any]) -> None:
    from rich.table import Table

    from atoll.bench.wan.experiment import EMULATORS, as_table
    from atoll.cli.output import data_console

    for name in EMULATORS:
        if "skipped" in report[name]:
            click.echo(f"emulator {name}: skipped: {report[name]['skipped']}")
    click.echo(f"emulator {report['emulator']}:")
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("")
    for title in ("ASKED", "MEASURED"):
        table.add_column(title, justify="right")
    for row in as_table(report):
        table.add_row(*row)
    for key, value in report.items():
        if not isinstance(value, list | dict) and key != "emulator":
            table.add_row(key, "", str(value))
    data_console().print(table)

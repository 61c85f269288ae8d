"""`atoll bench`: experiments on this machine, in a place of their own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import click

from atoll.cli.bench_bus import bus, bus_loss
from atoll.cli.bench_cloud import cloud
from atoll.cli.bench_crashes import crashes
from atoll.cli.bench_density import density
from atoll.cli.bench_faults import faults
from atoll.cli.bench_flood import flood
from atoll.cli.bench_guests import guests
from atoll.cli.bench_wan import wan
from atoll.cli.experiment import client_environment, say
from atoll.cli.verb import json_option, verb, write_lines

_SECONDS = click.FloatRange(min=0)
_COUNT = click.IntRange(min=1)


class _Experiments(click.Group):
    """A group whose help ends with an example, and whose commands leave nothing behind when they are interrupted."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401, RUF100
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            from atoll.cli.main import INTERRUPTED

            click.echo("error: interrupted\nhint: nothing of the experiment is left", err=True)
            return INTERRUPTED

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_lines(formatter, "Example", ["atoll bench site --sites 3", "atoll bench site --against standard --json"])


@click.group("bench", cls=_Experiments)
def command() -> None:
    """Measure sites, the bus and the WAN on this machine.

    Each experiment has a cloud or a bus of its own, in a temporary directory, on free ports of the loopback interface; nothing is left.
    """


@verb("site", "atoll bench site --sites 3\natoll bench site --sites 3 --against standard --json")
@click.option("--sites", type=_COUNT, default=1, show_default=True, help="How many sites, one after the other.")
@click.option("--against", type=click.Choice(["standard"]), help="Measure the usual deployment too: MariaDB, RabbitMQ, gunicorn.")
@click.option("--servers", type=_COUNT, default=30, show_default=True, help="How many servers to boot at full speed.")
@click.option("--at-once", type=_COUNT, default=10, show_default=True, help="How many of them at once.")
@click.option("--boots", type=_COUNT, default=7, show_default=True, help="How many servers to boot one by one.")
@click.option("--settle", type=_SECONDS, default=20, show_default=True, help="Seconds of rest before the idle site is looked at.")
@click.option("--idle", type=_SECONDS, default=30, show_default=True, help="Seconds for which the idle site is looked at.")
@click.option("--fresh-templates", is_flag=True, help="Measure a start with no schema templates too.")
@json_option
def site(*, as_json: bool, against: str | None, settle: float, idle: float, **counts: Any) -> None:  # noqa: ANN401, RUF100
    """Measure what sites cost: time to start, memory, boots, idle processor time.

    With --json, one JSON object is the last line. Quiet machines give steady numbers; ratios suffer least from noise.
    """
    from atoll.bench import standard
    from atoll.bench.report import ratios
    from atoll.bench.site import Options, run
    from atoll.bench.workspace import workspace

    options = Options(settle_s=settle, idle_s=idle, **counts)
    if against:
        standard.check_requirements()
    with workspace(say) as root:
        environment = client_environment(os.environ)
        report: dict[str, Any] = run(options, root, environment, say)
    if against:
        say(f"measured so far: {json.dumps(report)}; now the usual deployment")
        with workspace(say) as root:
            report["standard"] = standard.run(options, root, environment, say)
        report["ratios"] = ratios(report, report["standard"])
    _print(report, as_json=as_json)


@verb("churn", "atoll bench churn --clients 10 --seconds 120")
@click.option("--clients", type=_COUNT, default=10, show_default=True, help="How many clients at once.")
@click.option("--seconds", type=_SECONDS, default=120, show_default=True, help="For how long.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the clients' choices.")
@json_option
def churn(*, as_json: bool, clients: int, seconds: float, seed: int) -> int:
    """Create, list and delete with many clients at once, and count what goes wrong.

    It ends with exit code 1 if an API answered with an error of its own, a database was locked, or anything is left over.
    """
    from atoll.bench.churn import Options, run
    from atoll.bench.measure import failed
    from atoll.bench.workspace import workspace

    with workspace(say) as root:
        outcome = run(Options(clients, seconds, seed), root, client_environment(os.environ), say)
    if as_json:
        print(json.dumps(outcome.to_json()))
    else:
        for name, count in outcome.to_json().items():
            click.echo(f"{name:20} {count}")
    sys.stdout.flush()
    if outcome.bad:
        raise failed("; ".join(outcome.bad))
    return 0


command.add_command(site)
command.add_command(churn)
command.add_command(bus)
command.add_command(bus_loss)
command.add_command(wan)
command.add_command(density)
command.add_command(faults)
command.add_command(crashes)
command.add_command(cloud)
command.add_command(flood)
command.add_command(guests)


def _print(report: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(report))
        return
    from rich.table import Table

    from atoll.bench.report import rows
    from atoll.cli.output import data_console

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("")
    for title in ("ATOLL", "STANDARD", "RATIO") if "standard" in report else ("ATOLL",):
        table.add_column(title, justify="right")
    for row in rows(report):
        table.add_row(*row[: len(table.columns)])
    data_console().print(table)

"""`atoll bench`: runs experiments on this machine, each with a cloud of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from atoll.cli.bench_bus import bus, bus_loss
from atoll.cli.bench_cloud import cloud
from atoll.cli.bench_cloudlet import cloudlet
from atoll.cli.bench_crashes import crashes
from atoll.cli.bench_database import database_option
from atoll.cli.bench_density import density
from atoll.cli.bench_faults import faults
from atoll.cli.bench_flood import flood
from atoll.cli.bench_guests import guests
from atoll.cli.bench_hollow import hollow
from atoll.cli.bench_runs import measure, print_report, say
from atoll.cli.bench_shared_boots import shared_boots
from atoll.cli.bench_stores import stores
from atoll.cli.bench_trace import trace
from atoll.cli.bench_traffic import traffic
from atoll.cli.bench_wan import wan
from atoll.cli.verb import Group, group, json_option, verb

if TYPE_CHECKING:
    from rich.table import Table

_SECONDS = click.FloatRange(min=0)
_COUNT = click.IntRange(min=1)


class _Experiments(Group):
    """A group of commands that leave nothing behind if they are interrupted."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            from atoll.cli.main import INTERRUPTED

            click.echo("error: interrupted\nhint: all processes and files of the experiment were removed", err=True)
            return INTERRUPTED


@group("bench", "atoll bench site --sites 3\natoll bench site --against standard --json", _Experiments)
def command() -> None:
    """Measure sites, the bus and the WAN on this machine.

    Each experiment has a cloud or a bus of its own, in a temporary directory and on free ports of the loopback interface. It leaves
    nothing behind.
    """


@verb("site", "atoll bench site --sites 3\natoll bench site --sites 3 --against standard --json")
@click.option("--sites", type=_COUNT, default=1, show_default=True, help="Number of sites, which start one after the other.")
@click.option("--against", type=click.Choice(["standard"]), help="Measure the usual deployment too: MariaDB, RabbitMQ, gunicorn.")
@click.option("--servers", type=_COUNT, default=30, show_default=True, help="Number of servers to boot as fast as possible.")
@click.option("--at-once", type=_COUNT, default=10, show_default=True, help="Number of these servers that boot at the same time.")
@click.option("--boots", type=_COUNT, default=7, show_default=True, help="Number of servers to boot one by one.")
@click.option("--settle", type=_SECONDS, default=20, show_default=True, help="Seconds to wait before the idle site is measured.")
@click.option("--idle", type=_SECONDS, default=30, show_default=True, help="Seconds for which the idle site is measured.")
@click.option("--fresh-templates", is_flag=True, help="Also measure a start without schema templates.")
@json_option
def site(*, as_json: bool, against: str | None, settle: float, idle: float, **counts: Any) -> None:
    """Measure the costs of sites: time to start, memory, boots of servers, idle processor time.

    With --json, the last line is one JSON object. On an otherwise idle machine the values hardly vary; ratios vary least.
    """
    from atoll.bench import standard
    from atoll.bench.report import ratios
    from atoll.bench.site import SiteOptions, run

    options = SiteOptions(settle_s=settle, idle_s=idle, **counts)
    if against:
        standard.check_requirements()
    report = measure(run, options)
    if against:
        say(f"measured so far: {json.dumps(report)}; now the usual deployment")
        report["standard"] = measure(standard.run, options)
        report["ratios"] = ratios(report, report["standard"])
    print_report(report, lambda: _table(report), as_json=as_json)


@verb("churn", "atoll bench churn --clients 10 --seconds 120\natoll bench churn --database start:mariadb --json")
@click.option("--clients", type=_COUNT, default=10, show_default=True, help="Number of concurrent clients.")
@click.option("--seconds", type=_SECONDS, default=120, show_default=True, help="Duration in seconds.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the clients' random choices.")
@database_option
@json_option
def churn(*, as_json: bool, clients: int, seconds: float, seed: int, database: str) -> int:
    """Create, list and delete resources with many concurrent clients, and count errors.

    The exit code is 1 if an API answered with an internal error, a database was locked, or a resource was not deleted.
    """
    from atoll.bench.churn import ChurnOptions, run
    from atoll.bench.failure import failed

    outcome = measure(run, ChurnOptions(clients, seconds, seed, database))
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
command.add_command(stores)
command.add_command(shared_boots)
command.add_command(wan)
command.add_command(density)
command.add_command(faults)
command.add_command(crashes)
command.add_command(cloud)
command.add_command(cloudlet)
command.add_command(flood)
command.add_command(guests)
command.add_command(hollow)
command.add_command(trace)
command.add_command(traffic)


def _table(report: Mapping[str, Any]) -> Table:
    from atoll.bench.report import rows
    from atoll.cli.output import new_table

    titles = ("ATOLL", "STANDARD", "RATIO") if "standard" in report else ("ATOLL",)
    table = new_table("", *titles, numbers=titles, wrapped=("",))
    for row in rows(report):
        table.add_row(*row[: len(table.columns)])
    return table

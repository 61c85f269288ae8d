"""`atoll bench guests`: measures real guests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from atoll.cli.bench_runs import measure
from atoll.cli.verb import json_option, verb

if TYPE_CHECKING:
    from rich.table import Table

_PAIR = click.IntRange(min=2)
_COUNT = click.IntRange(min=1)
_SECONDS = click.FloatRange(min=0.1)

BOOTS = {
    "request_to_http_s": "time from the request to the guest's first HTTP answer, s",
    "control_plane_s": "time from the request until the server is ACTIVE, s",
    "guest_s": "time from ACTIVE to the first HTTP answer, s",
    "switch_us_per_packet": "processor time of the switch for a packet, µs",
    "data_plane_mb": "memory that a site needs more if it can run guests, MB",
}
"""Descriptions of the measured values by their names in the JSON, in the order of the table."""

TRAFFIC = {"gbit_s": "TCP, Gbit/s", "udp_gbit_s": "UDP of 1400 bytes, Gbit/s", "packets_s": "UDP of 64 bytes, packets/s"}
"""Descriptions of the values that are measured on each data path, by their names in the JSON."""

PATHS = {"": "GUESTS", "ports": "PORTS", "bridge": "BRIDGE", "veth": "VETH"}


@verb("guests", "atoll bench guests\natoll bench guests --guests 2 --json")
@click.option("--guests", type=_PAIR, default=4, show_default=True, help="Number of guests to boot, one by one.")
@click.option("--rounds", type=_COUNT, default=3, show_default=True, help="Number of measurements of each kind of traffic.")
@click.option("--seconds", type=_SECONDS, default=3, show_default=True, help="Seconds of each measurement.")
@json_option
def guests(*, as_json: bool, seconds: float, **counts: Any) -> None:
    """Measure real guests: the time to their first answer, the traffic between two of them, the memory of their site's data plane.

    For comparison, the same traffic goes over a veth pair, a Linux bridge, and two ports of the site's network without guests. The
    experiment needs root and a C compiler.
    """
    from atoll.bench.guests.experiment import GuestsOptions, run

    report = measure(run, GuestsOptions(seconds=seconds, **counts))
    if as_json:
        print(json.dumps(report))
        return
    from atoll.cli.output import data_console

    click.echo(
        f"{report['http_answered']} of {report['guests']} guests answered; {report['accelerator']}, data path: {report['datapath']}\n"
    )
    for table in (_numbers(report), _traffic(report)):
        data_console().print(table)


def _numbers(report: dict[str, Any]) -> Table:
    from atoll.cli.output import new_table

    table = new_table(header=False)
    for key, meaning in BOOTS.items():
        table.add_row(meaning, str(report[key]))
    return table


def _traffic(report: dict[str, Any]) -> Table:
    from atoll.cli.output import new_table

    table = new_table("", *PATHS.values(), numbers=PATHS.values(), wrapped=("",))
    for key, meaning in TRAFFIC.items():
        table.add_row(meaning, *(str(report[_key(path, key)]) for path in PATHS))
    return table


def _key(path: str, key: str) -> str:
    if not path:
        return "tcp_gbit_s" if key == "gbit_s" else key
    return f"{path}_{key}"

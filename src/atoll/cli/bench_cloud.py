"""`atoll bench cloud`: measures several sites as one cloud."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from atoll.cli.bench_runs import measure, parse_sizes, print_report
from atoll.cli.verb import json_option, verb

if TYPE_CHECKING:
    from rich.table import Table

_COUNT = click.IntRange(min=1)
_SECONDS = click.FloatRange(min=0)
_CHANGES = click.IntRange(min=4, max=1800)

PARTS = ("background", "gateway", "boots", "remote-boots", "identity", "image", "list", "apart")
"""The parts that can be measured alone: the names of `bench.cloud.experiment.MEASURES`, which `--help` does not import."""

KEYS = {
    "gateway_p50_ms": "a local request through the gateway takes longer by, ms",
    "local_boot_ratio": "boot at the user's own site, against the same with no WAN delay",
    "local_boot_wan_bytes": "bytes to and from other sites for these boots",
    "mesh_bit_s_per_site": "an idle site sends over the WAN, bit/s",
    "remote_boot_extra_rtt": "boot at another site takes longer by, round trips",
    "union_list_ms": "one list of all sites' servers, ms",
    "union_list_floor_ms": "the same of each site's Nova for its own servers, all at once, with no WAN, ms",
    "identity_ms": "a change of identity is seen everywhere after, ms",
    "converge_s": "after a separation with changes on both sides, agreed after, s",
    "image_rate_ratio": "an image arrives at this part of the link's rate",
    "image_resumed": "and goes on after a cut where it was",
}
"""Descriptions of the numbers, in the order of the table."""


@verb("cloud", "atoll bench cloud --sites 3\natoll bench cloud --sites 3,10 --json\natoll bench cloud --sites 10 --only list")
@click.option("--sites", default="3,10", show_default=True, metavar="N[,N]...", help="Numbers of full sites, each in a new cloud.")
@click.option("--rtt", type=_SECONDS, default=100, show_default=True, help="Milliseconds of round trip between any two sites.")
@click.option("--boots", type=_COUNT, default=8, show_default=True, help="Number of servers to boot one by one, of each kind.")
@click.option("--servers", type=_COUNT, default=1000, show_default=True, help="Number of servers in the long list.")
@click.option("--apart", type=_SECONDS, default=600, show_default=True, help="Seconds for which two halves of the cloud are separated.")
@click.option("--changes", type=_CHANGES, default=1000, show_default=True, help="Changes of identity on each side meanwhile.")
@click.option("--image-mib", type=_COUNT, default=1024, show_default=True, help="Size in MiB of the image that is transferred.")
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="Measure this part only; may be given more than once.")
@json_option
def cloud(*, as_json: bool, sites: str, rtt: float, apart: float, **counts: Any) -> None:
    """Measure several sites as one cloud over an emulated WAN: gateway, boots, lists, agreement, images.

    The defaults take about an hour on two cores. Results are printed as they are measured.
    """
    from atoll.bench.cloud.experiment import CloudOptions, run

    report = measure(run, CloudOptions(parse_sizes(sites), rtt_ms=rtt, apart_s=apart, **counts))
    print_report(report, lambda: _table(report["samples"]), as_json=as_json)


def _table(samples: list[dict[str, Any]]) -> Table:
    from atoll.cli.output import new_table

    titles = [f"{sample['sites']} SITES" for sample in samples]
    table = new_table("", *titles, numbers=titles, wrapped=("",))
    for key, meaning in KEYS.items():
        if key in samples[0]:
            table.add_row(meaning, *(str(sample[key]) for sample in samples))
    return table

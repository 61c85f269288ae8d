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
"""The names of the measurements. They are those of `bench.cloud.experiment.MEASURES`, repeated here so that `--help` imports less."""

KEYS = {
    "gateway_p50_ms": "time that the gateway adds to a local request, ms",
    "local_boot_ratio": "boot at the user's own site, divided by the same without WAN delay",
    "local_boot_wan_bytes": "bytes to and from other sites for these boots",
    "mesh_bit_s_per_site": "traffic of an idle site over the WAN, bit/s",
    "remote_boot_extra_rtt": "time that a boot at another site takes longer, round trips",
    "union_list_ms": "one list of all sites' servers, ms",
    "union_list_floor_ms": "each site's Nova lists its own servers, all at once, without WAN, ms",
    "identity_ms": "time until a change of identity is seen at all sites, ms",
    "converge_s": "time until sites agree after a separation with changes on both sides, s",
    "image_rate_ratio": "rate of an image's copy, as a share of the link's rate",
    "image_resumed": "the copy continues after a cut without a repetition",
}
"""Descriptions of the measured values by their names in the JSON, in the order of the table."""


@verb("cloud", "atoll bench cloud --sites 3\natoll bench cloud --sites 3,10 --json\natoll bench cloud --sites 10 --only list")
@click.option("--sites", default="3,10", show_default=True, metavar="N[,N]...", help="Numbers of full sites, each in a new cloud.")
@click.option("--rtt", type=_SECONDS, default=100, show_default=True, help="Milliseconds of round trip between any two sites.")
@click.option(
    "--boots", type=_COUNT, default=8, show_default=True, help="Number of servers to boot one by one, locally and at another site."
)
@click.option("--servers", type=_COUNT, default=1000, show_default=True, help="Number of servers in the long list.")
@click.option("--apart", type=_SECONDS, default=600, show_default=True, help="Seconds for which two halves of the cloud are separated.")
@click.option(
    "--changes", type=_CHANGES, default=1000, show_default=True, help="Number of changes of identity on each side during the separation."
)
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

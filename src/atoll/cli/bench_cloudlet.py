"""`atoll bench cloudlet`: measures the speed and size of overlays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from atoll.cli.bench_runs import measure, print_report
from atoll.cli.session import Session
from atoll.cli.verb import json_option, verb

if TYPE_CHECKING:
    from rich.table import Table

_COUNT = click.IntRange(min=1)

KEYS = {
    "memory_mib": "memory of the guest, MiB",
    "occupied_mib": "memory that the guest uses, MiB",
    "changed_mib": "pages of memory and disk that differ from the base, MiB",
    "overlay_mib": "overlay, MiB",
    "encode_s": "time to make the overlay, s",
    "encode_mib_s": "changed pages per second of that time, MiB/s",
    "encode_processor_s": "processor time to make the overlay, s",
    "apply_s": "time to apply the overlay, verified and on the disk, s",
    "apply_mib_s": "changed pages per second of that time, MiB/s",
    "apply_processor_s": "processor time to apply the overlay, s",
    "base_s": "time to make the base, s",
    "bit_exact": "the result is the guest, bit by bit",
    "patch_from_mib": "zstd --patch-from, memory alone: size, MiB",
    "patch_from_encode_mib_s": "zstd --patch-from: changed pages per second, MiB/s",
    "patch_from_apply_s": "zstd --patch-from: time to apply, not flushed to the disk, s",
    "patch_from_bit_exact": "zstd --patch-from: the result is right",
}
"""Descriptions of the measured values by their names in the JSON, in the order of the table."""


@verb("cloudlet", "atoll bench cloudlet\natoll bench cloudlet --memory 256 --rounds 1 --json")
@click.option(
    "--memory", "memory_mib", type=click.IntRange(64, 65536), default=1024, show_default=True, help="Memory of the guest, in MiB."
)
@click.option(
    "--disk", "disk_mib", type=click.IntRange(64), default=8192, show_default=True, help="Disk of the guest, in MiB; mostly a hole."
)
@click.option("--rounds", type=_COUNT, default=3, show_default=True, help="Number of rounds; the fastest one counts.")
@click.option("--jobs", type=_COUNT, default=1, show_default=True, help="Number of processes that encode.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of all random choices.")
@json_option
@click.pass_obj
def cloudlet(session: Session, /, *, as_json: bool, **options: int) -> None:
    """Measure overlays of a synthetic guest, and of the project's guest image if this machine can make it.

    For comparison, `zstd --patch-from` runs on the same files, if it is installed. No guest runs. With --json, the last line is one JSON
    object.
    """
    from atoll.bench.cloudlet.experiment import OverlayOptions, run

    report = measure(lambda options, work: run(options, work, session.cache), OverlayOptions(**options))
    print_report(report, lambda: _table(report), as_json=as_json)


def _table(report: Mapping[str, Any]) -> Table:
    from atoll.cli.output import new_table

    image = report.get("guest", {})
    titles = ("SYNTHETIC", *(("GUEST IMAGE",) if image else ()))
    table = new_table("", *titles, numbers=titles, wrapped=("",))
    for key, meaning in KEYS.items():
        if key in report:
            table.add_row(meaning, *[str(found.get(key, "")) for found in (report, image)[: len(titles)]])
    return table

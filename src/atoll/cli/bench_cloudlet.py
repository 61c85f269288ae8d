"""`atoll bench cloudlet`: measures overlays, servers from overlays, and hand-offs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atoll.cli.bench_runs import measure, print_outcome, print_report
from atoll.cli.session import Session
from atoll.cli.verb import json_option, verb

if TYPE_CHECKING:
    from rich.table import Table

_COUNT = click.IntRange(min=1)
_READABLE = click.Path(exists=True, dir_okay=False, path_type=Path)

_PARTS = (
    "synthetic", "overlay", "synthesis", "cached", "usb", "image", "handoff-5mbit", "handoff-25mbit", "handoff-cut", "snapshot-5mbit",
    "snapshot-25mbit",
)  # fmt: skip

KEYS = {
    "guest_disk_mib": "disk of the guest, MiB",
    "guest_used_mib": "data on this disk, MiB",
    "memory_mib": "memory of the guest, MiB",
    "occupied_mib": "memory that the guest uses, MiB",
    "resumed": "servers from overlays and after hand-offs resume their memory",
    "accelerator": "hypervisor: KVM, or TCG, which emulates the processor",
    "changed_mib": "pages of memory and disk that differ from the base, MiB",
    "overlay_mib": "overlay, MiB",
    "encode_s": "time to make the overlay, s",
    "encode_mib_s": "changed pages per second of that time, MiB/s",
    "encode_processor_s": "processor time to make the overlay, s",
    "apply_s": "time to apply the overlay, verified and on the disk, s",
    "apply_mib_s": "changed pages per second of that time, MiB/s",
    "apply_processor_s": "processor time to apply the overlay, s",
    "base_s": "time to make the base, s",
    "patch_from_mib": "zstd --patch-from, memory alone: size, MiB",
    "patch_from_encode_mib_s": "zstd --patch-from: changed pages per second, MiB/s",
    "patch_from_apply_s": "zstd --patch-from: time to apply, not flushed to the disk, s",
    "patch_from_bit_exact": "zstd --patch-from: the result is right",
    "synthesis_s_38mbit": "server from an overlay over 38 Mbit/s, base at the site: until ACTIVE, s",
    "synthesis_cached_s_38mbit": "the same, nothing at the site, launch image at the other site, s",
    "synthesis_usb_s": "server from an overlay in a file at the site, WAN cut: until ACTIVE, s",
    "image_s_38mbit": "server from a whole image over 38 Mbit/s: until ACTIVE, s",
    "first_answer_s.synthesis_38mbit": "first HTTP answer: overlay, base at the site, s",
    "first_answer_s.synthesis_cached_38mbit": "first HTTP answer: launch image at the other site, s",
    "first_answer_s.synthesis_usb": "first HTTP answer: file at the site, s",
    "first_answer_s.image_38mbit": "first HTTP answer: whole image, s",
    "handoff_s_5mbit": "hand-off over 5 Mbit/s, 100 ms, 1 % loss, s",
    "handoff_down_s_5mbit": "longest time without an HTTP answer meanwhile, s",
    "snapshot_s_5mbit": "move by a snapshot over the same link, s",
    "snapshot_down_s_5mbit": "longest time without an HTTP answer meanwhile, s",
    "handoff_s_25mbit": "hand-off over 25 Mbit/s, 50 ms, s",
    "handoff_down_s_25mbit": "longest time without an HTTP answer meanwhile, s",
    "snapshot_s_25mbit": "move by a snapshot over the same link, s",
    "snapshot_down_s_25mbit": "longest time without an HTTP answer meanwhile, s",
    "handoff_cut_s": "hand-off over 25 Mbit/s with a cut of 10 s, s",
    "handoff_cut_extra_s": "part of it beyond the cut and a hand-off without a cut, s",
    "residue_mib": "residues of a hand-off, MiB",
    "bit_exact": "all disks are exact, bit by bit",
}
"""Descriptions of the measured values by their names in the JSON, in the order of the table."""


@verb(
    "cloudlet",
    "atoll bench cloudlet --repeats 1 --json\natoll bench cloudlet --part synthesis --part image\n"
    "atoll bench cloudlet --part synthetic --part overlay --memory 256 --rounds 1",
)
@click.option(
    "--part", "parts", type=click.Choice(_PARTS), multiple=True, help="A part to measure; repeatable. [default: all, in this order]"
)
@click.option("--repeats", type=_COUNT, default=3, show_default=True, help="Number of measurements of each part with a cloud.")
@click.option("--image", type=_READABLE, metavar="FILE", help="Measure another guest too, such as Debian's cloud image (raw or qcow2).")
@click.option("--application", type=_READABLE, metavar="FILE", help="The disk of that guest with an application.")
@click.option(
    "--memory", "memory_mib", type=click.IntRange(64, 65536), default=1024, show_default=True, help="Memory of the synthetic guest, in MiB."
)
@click.option(
    "--disk",
    "disk_mib",
    type=click.IntRange(64),
    default=8192,
    show_default=True,
    help="Disk of the synthetic guest, in MiB; mostly a hole.",
)
@click.option("--rounds", type=_COUNT, default=3, show_default=True, help="Number of rounds on files; the fastest one counts.")
@click.option("--jobs", type=_COUNT, default=1, show_default=True, help="Number of processes that encode.")
@click.option(
    "--soak", type=_COUNT, metavar="N", help="Instead, carry out N random starts and hand-offs under faults, and check all servers."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of all random choices.")
@json_option
@click.pass_obj
def cloudlet(session: Session, /, *, as_json: bool, soak: int | None, **given: Any) -> int:
    """Measure servers from overlays and hand-offs between two sites with real guests, over emulated slow links.

    For comparison, the same guest starts from a whole image over the same link, and moves by a snapshot instead of a hand-off. The parts
    `synthetic` and `overlay` make and apply overlays as files, the former beside `zstd --patch-from`; they need neither guests nor root.
    With --json, the last line is one JSON object. The exit code is 1 if a part failed, or if --soak found a violation.
    """
    from atoll.bench.cloudlet.experiment import CloudletOptions, check, failures, run
    from atoll.bench.cloudlet.files import OverlayOptions
    from atoll.bench.failure import failed

    if soak is not None:
        return _soak(session, soak, given["seed"], as_json=as_json)
    if given["application"] and not given["image"]:
        raise click.UsageError("--application is a disk of the guest that --image names: expected --image FILE too")
    files = OverlayOptions(**{name: given[name] for name in ("memory_mib", "disk_mib", "rounds", "seed", "jobs")})
    parts = tuple(dict.fromkeys(given["parts"] or _PARTS))
    options = CloudletOptions(parts, given["repeats"], given["image"], given["application"], files)
    check(options)
    report = measure(lambda options, work: run(options, work, session.cache), options)
    print_report(report, lambda: _table(report), as_json=as_json)
    sys.stdout.flush()
    lines = failures(report)
    if lines:
        raise failed(f"{len(lines)} measurements failed; the first is {lines[0]}", "`failures` of the JSON has all")
    return 0


def _soak(session: Session, steps: int, seed: int, *, as_json: bool) -> int:
    from atoll.bench.cloudlet.soak import check_soak, run
    from atoll.bench.failure import failed

    check_soak()
    outcome = measure(lambda count, work: run(count, seed, work, session.cache), steps)
    print_outcome(outcome.to_json(), as_json=as_json)
    if not outcome.ok:
        raise failed(f"{len(outcome.violations)} violations were found", f"to repeat the same steps: --soak {steps} --seed {seed}")
    return 0


def _table(report: Mapping[str, Any]) -> Table:
    from atoll.cli.output import new_table

    columns = {"GUEST": report, "IMAGE": report.get("image", {}), "SYNTHETIC": report.get("synthetic", {})}
    shown = {title: _flat(found) for title, found in columns.items() if set(_flat(found)) & set(KEYS)}
    table = new_table("", *shown, numbers=tuple(shown), wrapped=("",))
    for key, meaning in KEYS.items():
        if any(key in found for found in shown.values()):
            table.add_row(meaning, *[str(found.get(key, "")) for found in shown.values()])
    return table


def _flat(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a report with the members of `first_answer_s` beside the others."""
    return {**found, **{f"first_answer_s.{name}": value for name, value in found.get("first_answer_s", {}).items()}}

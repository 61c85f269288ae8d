"""`atoll wan`: shows, changes and measures the emulated network between the sites of a running cloud."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from atoll.cli.output import data_console, new_table, print_json
from atoll.cli.session import Session
from atoll.cli.verb import group, json_option, verb

if TYPE_CHECKING:
    from rich.table import Table

    from atoll.wan.client import Wan

RTT_TOLERANCE_MS, RTT_TOLERANCE = 1.0, 0.02
"""Tolerance of a round trip, in milliseconds and as a share of the round trip: the greater one counts, plus the jitter of the links."""

_PROBES_PER_S = 2000


@group("wan", "atoll wan show\natoll wan set paris:lyon delay=80ms loss=1%\natoll wan cut paris")
def command() -> None:
    """Show and change the network between sites.

    Changes take effect immediately. A link is named by its two ends: paris:lyon.
    """


def _wan(session: Session) -> Wan:
    from atoll.wan.client import Wan

    return Wan(session.state.root)


@verb("show", "atoll wan show\natoll wan show --json")
@json_option
@click.pass_obj
def show(session: Session, *, as_json: bool) -> None:
    """Show the emulator, the addresses and the present links."""
    found = _wan(session).describe()
    if as_json:
        print_json(found)
        return
    user = "in a user namespace" if found["rootless"] else "as root"
    click.echo(f"emulator: {found['emulator']} ({found['reason']}), {user}, pid {found['pid']}")
    console = data_console()
    addresses = new_table("SITE", "ADDRESS")
    for site, address in found["addresses"].items():
        addresses.add_row(site, address)
    console.print(addresses)
    console.print(_links(found))


@verb("set", "atoll wan set paris:lyon delay=80ms\natoll wan set paris:lyon rate=10mbit loss=1% --one-way")
@click.argument("link")
@click.argument("changes", nargs=-1, required=True, metavar="NAME=VALUE...")
@click.option("--one-way", is_flag=True, help="Change only the direction from the first end to the second.")
@click.pass_obj
def set_(session: Session, link: str, changes: tuple[str, ...], *, one_way: bool) -> None:
    """Change the properties of a link: delay, jitter, rate, loss, reorder.

    The change lasts until the next one, or until the cloud goes down.
    """
    _wan(session).set(link, parse_changes(changes), one_way=one_way)


@verb("cut", "atoll wan cut paris:lyon\natoll wan cut paris")
@click.argument("name", metavar="LINK|SITE")
@click.pass_obj
def cut(session: Session, name: str) -> None:
    """Cut a link, or all links of a site; packets in transit are lost too."""
    _wan(session).cut(name)


@verb("heal", "atoll wan heal\natoll wan heal paris:lyon")
@click.argument("name", required=False, metavar="[LINK|SITE]")
@click.pass_obj
def heal(session: Session, name: str | None) -> None:
    """Undo a cut; without a name, all cuts."""
    _wan(session).heal(name)


@verb("ping", "atoll wan ping paris lyon")
@click.argument("start", metavar="SITE")
@click.argument("end", metavar="SITE")
@click.option("--count", type=click.IntRange(1, 10_000), default=5, show_default=True, help="Number of packets.")
@click.option("--interval", type=click.FloatRange(0.001, 10), default=0.2, show_default=True, help="Seconds between two packets.")
@click.pass_obj
def ping(session: Session, start: str, end: str, count: int, interval: float) -> int:
    """Measure the round trip between two sites; the exit code is 1 if all packets are lost."""
    echoes = _wan(session).probe([(start, end)], count, interval)[start, end]
    rtts = [echo.rtt_ms for echo in echoes]
    for rtt in rtts:
        click.echo("lost" if rtt is None else f"{rtt:.2f} ms")
    came = [rtt for rtt in rtts if rtt is not None]
    if came:
        click.echo(f"{len(came)} of {count} packets came back, median round trip {statistics.median(came):.2f} ms")
        return 0
    click.echo(f"none of {count} packets came back")
    return 1


@verb("test", "atoll wan test\natoll wan test --json")
@click.option("--count", type=click.IntRange(1, 1000), default=5, show_default=True, help="Number of packets between two sites.")
@json_option
@click.pass_obj
def test(session: Session, count: int, *, as_json: bool) -> int:
    """Compare the round trips between all sites with those of the topology; the exit code is 1 if one is wrong.

    The fastest packet counts. A round trip may differ by 1 ms or 2 %, whichever is more, plus the jitter of the links. If sites are cut off
    from each other, the test expects that no packet arrives.
    """
    wan = _wan(session)
    rows = compare(wan, count)
    if as_json:
        print_json(rows)
    else:
        table = new_table("FROM", "TO", "EXPECTED ms", "MEASURED ms", "LOST", "")
        for row in rows:
            asked, measured = (_number(row[key]) for key in ("asked_ms", "measured_ms"))
            table.add_row(row["from"], row["to"], asked, measured, str(row["lost"]), "" if row["ok"] else "WRONG")
        data_console().print(table)
    sys.stdout.flush()
    return 0 if all(row["ok"] for row in rows) else 1


@verb("top", "atoll wan top\natoll wan top --once --json")
@click.option("--interval", type=click.FloatRange(0.1, 60), default=1.0, show_default=True, help="Seconds between two updates.")
@click.option("--once", is_flag=True, help="Print the counters once, and exit.")
@json_option
@click.pass_obj
def top(session: Session, interval: float, *, once: bool, as_json: bool) -> None:
    """Watch the traffic of each link, in each direction.

    Rates are those of the last interval; packets and bytes are counted since the cloud came up. With --json, each interval is one line with
    a JSON object.
    """
    from rich.live import Live

    wan = _wan(session)
    before, then = wan.counters(), time.monotonic()
    if once:
        print_json(before) if as_json else data_console().print(_traffic(before, before, 1.0))
        return
    with Live(console=data_console(), auto_refresh=False) as live:
        while True:
            time.sleep(interval)
            now, at = wan.counters(), time.monotonic()
            if as_json:
                click.echo(json.dumps(now))
            else:
                live.update(_traffic(before, now, at - then), refresh=True)
            before, then = now, at


for each in (show, set_, cut, heal, ping, test, top):
    command.add_command(each)


def parse_changes(words: Iterable[str]) -> dict[str, Any]:
    """Parse properties such as `delay=80ms`, and return them as fields of a wire.

    Raises:
        click.UsageError: a property or its value is not valid.
    """
    from pydantic import ValidationError

    from atoll.cloud.topology import Shape

    said: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in Shape.model_fields:
            raise click.UsageError(f"{word}: expected one of {', '.join(f'{known}=…' for known in Shape.model_fields)}")
        said[name] = value
    try:
        return Shape.model_validate(said).changes()
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise click.UsageError(f"{name}={said[name]}: expected {Shape.model_fields[name].description}") from None


def compare(wan: Wan, count: int) -> list[dict[str, Any]]:
    """Return, for every two sites, the expected and the measured round trip in milliseconds.

    A round trip is `None` if no path exists, or if all packets were lost.
    """
    asked = wan.describe()["asked"]
    pairs = [(item["from"], item["to"]) for item in asked]
    if not pairs:
        return []
    longest_s = max(item["rtt_ms"] or 0 for item in asked) / 1e3
    found = wan.probe(pairs, count, max(0.1, len(pairs) / _PROBES_PER_S), 1 + 2 * longest_s)
    rows = []
    for item, pair in zip(asked, pairs, strict=True):
        came = [echo.rtt_ms for echo in found[pair] if echo.rtt_ms is not None]
        measured = min(came, default=None)  # the fastest packet, because slower ones have waited for a processor
        rows.append({
            "from": pair[0], "to": pair[1], "asked_ms": item["rtt_ms"], "measured_ms": measured, "lost": count - len(came),
            "ok": right(item["rtt_ms"], measured, item["jitter_ms"]),
        })  # fmt: skip
    return rows


def right(asked_ms: float | None, measured_ms: float | None, jitter_ms: float = 0.0) -> bool:
    """Return whether a round trip is as expected.

    Args:
        asked_ms: the expected round trip in milliseconds; `None` means that no path exists.
        measured_ms: the measured round trip in milliseconds; `None` means that no packet came back.
        jitter_ms: the jitter of the links on the path, in milliseconds.
    """
    if asked_ms is None or measured_ms is None:
        return asked_ms is measured_ms
    return abs(asked_ms - measured_ms) <= max(RTT_TOLERANCE_MS, RTT_TOLERANCE * asked_ms) + jitter_ms


def _links(found: Mapping[str, Any]) -> Table:
    from atoll.cloud.drawing import spell_wire
    from atoll.cloud.network import Network

    wires = Network.from_json({"nodes": [], "wires": found["wires"]}).wires
    up = {(item["from"], item["to"]): item["up"] for item in found["wires"]}
    shown: set[tuple[str, str]] = set()
    table = new_table("FROM", "TO", "", "")
    for (start, end), wire in wires.items():
        same = wires.get((end, start)) == wire
        if same and (end, start) in shown:
            continue
        shown.add((start, end))
        table.add_row(start, end, spell_wire(wire) + ("" if same else ", one way"), "" if up[start, end] else "cut")
    return table


def _traffic(before: Mapping[str, Mapping[str, int]], now: Mapping[str, Mapping[str, int]], seconds: float) -> Table:
    numbers = ("MBIT/S", "PACKETS/S", "PACKETS", "BYTES", "LOST", "OVERFLOWED", "CUT")
    table = new_table("LINK", *numbers, numbers=numbers)
    for link, counted in now.items():
        old = before.get(link, counted)
        mbit = 8 * (counted["bytes_out"] - old["bytes_out"]) / seconds / 1e6
        packets = (counted["packets_out"] - old["packets_out"]) / seconds
        totals = (str(counted[name]) for name in ("packets_out", "bytes_out", "lost", "overflowed", "cut"))
        table.add_row(link.replace(":", " > "), f"{mbit:.2f}", f"{packets:.0f}", *totals)
    return table


def _number(value: float | None) -> str:
    return "cut" if value is None else f"{value:.2f}"

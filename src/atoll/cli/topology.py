"""`atoll topology`: shows the network between sites, as the cloud's YAML describes it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atoll.cli.output import data_console, new_table, print_json
from atoll.cli.session import Session
from atoll.cli.verb import group, json_option, verb

if TYPE_CHECKING:
    from rich.table import Table

    from atoll.cloud.network import Network

_MAP_ROWS = 24
_MAP_COLUMNS = 120


@group("topology", "atoll topology show my-cloud.yaml\natoll topology show --svg network.svg")
def command() -> None:
    """Show the network between sites, as the YAML describes it."""


@verb("show", "atoll topology show my-cloud.yaml\natoll topology show --svg network.svg")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--svg", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write the map to FILE as SVG.")
@json_option
@click.pass_obj
def show(session: Session, file: Path | None, svg: Path | None, *, as_json: bool) -> None:
    """Draw the topology of FILE, or of the cloud as it was last described.

    The command prints a map, the round trip between every two sites in milliseconds, and the properties of each link. `atoll wan show`
    prints the present properties.
    """
    from atoll.cloud import read_cloud
    from atoll.cloud.drawing import svg as drawn
    from atoll.errors import AtollError

    cloud = read_cloud(file or session.state.cloud_file)
    network = cloud.network
    if network is None:
        raise AtollError("wan.not_running", f"{cloud.name} has no topology", "add `topology: {preset: mesh, defaults: {delay: 10ms}}`")
    if svg is not None:
        svg.write_text(drawn(network), encoding="utf-8")
        click.echo(f"{svg}: {len(network.sites)} sites, {len(network.links)} links", err=True)
        return
    if as_json:
        print_json(_as_json(network))
        return
    _print(network)


command.add_command(show)


def _as_json(network: Network) -> dict[str, Any]:
    sites = network.sites
    return {**network.to_json(), "rtt_ms": {start: {end: network.rtt_ms(start, end) for end in sites if end != start} for start in sites}}


def _print(network: Network) -> None:
    from atoll.cloud.drawing import text_map

    columns = min(_MAP_COLUMNS, shutil.get_terminal_size((100, 24)).columns)
    rows = min(_MAP_ROWS, max(7, 2 * len(network.nodes)))
    for line in text_map(network, columns, rows):
        click.echo(line)
    click.echo()
    console = data_console()
    console.print(_matrix(network))
    console.print(_links(network))


def _matrix(network: Network) -> Table:
    table = new_table("RTT ms", *network.sites, numbers=network.sites)
    for start in network.sites:
        cells = [network.rtt_ms(start, end) for end in network.sites]
        table.add_row(start, *("" if start == end else f"{cell:.1f}" for end, cell in zip(network.sites, cells, strict=True)))
    return table


def _links(network: Network) -> Table:
    from atoll.cloud.drawing import spell_wire

    table = new_table("LINK", "THERE", "BACK")
    for start, end in network.links:
        there, back = network.wires[start, end], network.wires[end, start]
        table.add_row(f"{start}:{end}", spell_wire(there), "the same" if there == back else spell_wire(back))
    return table

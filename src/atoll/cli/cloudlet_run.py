"""`atoll cloudlet run`: starts an application's server near the device, once."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from atoll.cli.bar import Bar
from atoll.cli.cloudlet_find import complete_cloud
from atoll.cli.output import plain, print_json
from atoll.cli.verb import json_option, verb


@verb("run", "atoll cloudlet run --cloud paris app\natoll cloudlet run --cloud paris app --port 8443 --network net --json")
@click.option(
    "--cloud", metavar="NAME", shell_complete=complete_cloud, help="The cloud in clouds.yaml. [default: OS_CLOUD, or OS_AUTH_URL …]"
)
@click.option("--name", default="", help="The server's name. [default: that of the image]")
@click.option("--flavor", default="", metavar="NAME", help="The flavor. [default: the smallest that fits the image]")
@click.option("--network", default="", metavar="NAME", help="The network. [default: the only one of the project]")
@click.option("--port", type=click.IntRange(1, 65535), metavar="N", help="Wait until this TCP port of the server accepts connections.")
@click.option(
    "--trust",
    type=click.Path(dir_okay=False, path_type=Path),
    multiple=True,
    metavar="PEM",
    help="The key of the overlay's maker, if the overlay is another project's; repeatable.",
)
@click.option(
    "--wait", type=click.FloatRange(1, 86_400), default=300.0, show_default=True, metavar="S", help="Seconds until the server must answer."
)
@json_option
@click.argument("image", metavar="IMAGE")
def command(*, cloud: str | None, port: int | None, trust: tuple[Path, ...], wait: float, as_json: bool, **wish: Any) -> None:
    """Start a server from IMAGE, an overlay or another image, at the site nearest to this device, and print its address.

    The command asks the gateway that the credentials name for the nearest site with room, prefers one that has the overlay's base or launch
    image, creates the server there, and waits until it answers. If the project has a server that an earlier `run` has started for this
    image and name, at any site, this server is used. A stopped one is started.
    """
    from atoll.cloudlet.keys import read_trusted_key
    from atoll.cloudlet.run import CloudletRunner, WantedRun

    keys = tuple(read_trusted_key(each).name for each in trust)
    with Bar() as bar:
        found = CloudletRunner(cloud).run(WantedRun(**wish, port=port or 0, trust=keys, wait_s=wait), bar)
    if as_json:
        print_json(asdict(found))
        return
    where = f"{found.address}:{found.port}" if found.port else found.address
    click.echo(plain(f"{where}  {found.name} at {found.site}, {'started' if found.started else 'used before'}, {found.seconds:.1f} s"))
    if found.site != found.nearest:
        hint = f"`atoll cloudlet handoff {found.server} {found.nearest}` takes it there"
        click.echo(plain(f"note: {found.nearest} is nearer now: {hint}"), err=True)
    if found.missing:
        click.echo(plain(f"note: {found.missing} did not answer, and may have such a server too"), err=True)

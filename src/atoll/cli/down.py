"""`atoll down`: stops sites."""

from __future__ import annotations

import click

from atoll.cli.session import Session
from atoll.cli.verb import complete_site, verb


@verb("down", "atoll down\natoll down paris")
@click.argument("sites", nargs=-1, metavar="[SITE]...", shell_complete=complete_site)
@click.pass_obj
def command(session: Session, sites: tuple[str, ...]) -> None:
    """Stop some or all sites, and keep their data.

    `atoll up` starts them again with their servers, images and networks. If the cloud is on a testbed, its hosts stay reserved.
    """
    from atoll.cli import testbeds

    if testbeds.is_there(session):
        testbeds.down(session, sites)
        return
    from atoll.cli.progress import Progress
    from atoll.site.down import down

    with Progress("stopping") as progress:
        stopped = down(session.state, sites, progress.event)
    if stopped:
        click.echo(f"stopped: {', '.join(stopped)}")
    else:
        click.echo("no site is running" if not sites else f"not running: {', '.join(sites)}")

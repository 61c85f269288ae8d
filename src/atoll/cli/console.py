"""`atoll console`: attaches the terminal to a server's serial console."""

from __future__ import annotations

import sys

import click

from atoll.cli.output import plain
from atoll.cli.session import Session
from atoll.cli.verb import complete_site, verb


@verb("console", "atoll console web\natoll console --site paris 8c0a6f0e-6a53-4c3f-9d8d-3b0a5d4b6d0b")
@click.option("--site", metavar="SITE", shell_complete=complete_site, help="The site whose gateway to ask. [default: the first]")
@click.argument("server")
@click.pass_obj
def command(session: Session, site: str | None, server: str) -> None:
    """Attach the terminal to the serial console of a server.

    SERVER is the name or id of a server anywhere in the cloud. All keys go to the guest, even Ctrl-C; Ctrl-] leaves the console. If the
    screen is empty, press Enter. A serial console has one terminal at a time: a new terminal replaces the old one. If standard input is
    not a terminal, it is sent to the guest, and the guest's output goes to standard output, until the guest closes the console.
    """
    from atoll.cli.terminal import attach
    from atoll.errors import AtollError
    from atoll.runtime.client import connect
    from atoll.site import wan
    from atoll.site.console import Consoles
    from atoll.site.sites import applied_cloud, site_settings

    state = session.state
    state.check()
    settings = site_settings(state, site)
    if connect(state.root) is None:
        raise AtollError("site.not_running", f"{settings.site} is not running", "bring it up with `atoll up`")
    wan.enter(state, applied_cloud(state), settings.site)
    console = Consoles(settings).serial(server)
    where = f"{console.server} at {console.site}" if console.site else console.server
    if sys.stdin.isatty():
        click.echo(f"connected to the console of {where}; Ctrl-] leaves", err=True)
    why = attach(console.url)
    click.echo(f"disconnected from the console of {where}{f': {plain(why)}' if why else ''}", err=True)

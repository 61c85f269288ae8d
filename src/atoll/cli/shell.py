"""`atoll shell`: runs a shell inside a site."""

from __future__ import annotations

import os
import sys

import click

from atoll.cli.session import Session
from atoll.cli.verb import complete_site, verb


@verb("shell", "atoll shell paris\natoll shell paris -c 'openstack server list | wc -l'")
@click.option("-c", "said", metavar="COMMAND", help="Run COMMAND in the shell, and exit.")
@click.argument("site", shell_complete=complete_site)
@click.pass_obj
def command(session: Session, site: str, said: str | None) -> None:
    """Run your shell inside SITE.

    As with `atoll exec`, the shell runs in the site's own network, if the cloud has a topology, with the credentials of the site's
    administrator. $ATOLL_SITE contains the name of the site; bash shows it in the prompt. The exit code is the shell's.
    """
    from atoll.site.inside import place, shell_command

    found = place(session.state, site)
    session.restore()
    if said is None and sys.stdin.isatty():
        click.echo(f"this shell is inside {site}, with the credentials of its administrator; `exit` leaves it", err=True)
    found.replace(shell_command(os.environ, said), found.environment(os.environ))

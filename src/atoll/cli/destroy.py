"""`atoll destroy`: deletes sites."""

from __future__ import annotations

import sys

import click

from atoll.cli.session import Session
from atoll.cli.verb import complete_site, verb


@verb("destroy", "atoll destroy paris\natoll destroy --yes")
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@click.argument("sites", nargs=-1, metavar="[SITE]...", shell_complete=complete_site)
@click.pass_obj
def command(session: Session, sites: tuple[str, ...], *, yes: bool) -> None:
    """Stop some or all sites, and delete their data.

    The servers, images, networks, users and passwords of these sites are deleted for good. If the cloud is on a testbed, and no site
    remains, its hosts are released.
    """
    from atoll.cli import testbeds

    if testbeds.is_there(session):
        testbeds.destroy(session, sites, yes=yes)
        return
    from atoll.cli.progress import Progress
    from atoll.site.destroy import destroy, destroyable
    from atoll.site.sites import check_known

    existing = destroyable(session.state)
    if sites:
        check_known(session.state, sites)
    if not existing and not session.state.version_file.exists():
        click.echo("there is nothing to destroy")
        return
    if not yes:
        names = ", ".join(sites or existing) or "the remaining files"
        confirm(f"Delete {names} in {session.state.root} for good?")
    with Progress("destroying") as progress:
        gone = destroy(session.state, sites, progress.event)
    click.echo(f"destroyed: {', '.join(gone) or session.state.root}")


def confirm(question: str) -> None:
    """Ask the user to confirm a change that can't be undone.

    Raises:
        click.UsageError: standard input is not a terminal.
        click.Abort: the answer is no.
    """
    if not sys.stdin.isatty():
        raise click.UsageError("standard input is not a terminal, so nobody can confirm this: expected --yes")
    click.confirm(question, abort=True, err=True)

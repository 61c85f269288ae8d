"""`atoll pending`."""

from __future__ import annotations

import click

from atoll.cli.output import data_console, print_json
from atoll.cli.session import Session
from atoll.cli.verb import complete_site, json_option, verb


@verb("pending", "atoll pending\natoll pending --site paris --json")
@click.option("--site", metavar="SITE", shell_complete=complete_site, help="Whose gateway is asked; without it, the cloud's first site's.")
@json_option
@click.pass_obj
def command(session: Session, site: str | None, *, as_json: bool) -> None:
    """List what other sites have yet to do.

    A change to something that is at several sites reaches those later that can't be reached now, and so does the undoing of what could be
    made at only some of them. Each gateway sees to what was asked of it, until it is done; nobody has to help.
    """
    from rich.table import Table

    from atoll.site.gateway_client import ask

    found = ask(session.state, site, "GET", "/pending")
    if as_json:
        print_json(found)
        return
    if not found["pending"]:
        click.echo("nothing waits")
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("SITE", "WHAT", "SINCE", "REFUSED", "WHY"):
        table.add_column(title, no_wrap=True)
    for each in found["pending"]:
        table.add_row(each["site"], each["what"], each["since"], str(each["attempts"]), each["error"])
    data_console().print(table)

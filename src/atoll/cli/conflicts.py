"""`atoll conflicts`."""

from __future__ import annotations

import click

from atoll.cli.output import data_console, print_json
from atoll.cli.session import Session
from atoll.cli.verb import complete_site, json_option, verb


@verb("conflicts", "atoll conflicts\natoll conflicts paris --json")
@json_option
@click.argument("site", required=False, metavar="[SITE]", shell_complete=complete_site)
@click.pass_obj
def command(session: Session, site: str | None, *, as_json: bool) -> None:
    """List names that two sites gave while they were apart.

    Both resources are kept. The one made first keeps its name, the other one's got a suffix, the same at every site. Rename or delete one
    of them with the usual client, and the conflict is gone.
    """
    from rich.table import Table

    from atoll.site.gateway_client import ask

    found = ask(session.state, site, "GET", "/conflicts")
    if as_json:
        print_json(found)
        return
    if not found["conflicts"]:
        click.echo("no name is used twice")
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("KIND", "NAME", "KEPT BY", "RENAMED", "IS CALLED"):
        table.add_column(title, no_wrap=True)
    for each in found["conflicts"]:
        table.add_row(each["kind"], each["name"], each["kept"], each["renamed"], each["new_name"])
    data_console().print(table)

"""`atoll pending`: lists operations that wait for other sites."""

from __future__ import annotations

import click

from atoll.cli.output import data_console, new_table, print_json
from atoll.cli.session import Session
from atoll.cli.verb import complete_site, json_option, verb


@verb("pending", "atoll pending\natoll pending --site paris --json")
@click.option("--site", metavar="SITE", shell_complete=complete_site, help="The site whose gateway to ask. [default: the first]")
@json_option
@click.pass_obj
def command(session: Session, site: str | None, *, as_json: bool) -> None:
    """List the operations that wait for other sites.

    If a resource has copies at several sites, and some of these sites are unreachable, the gateway changes the copies there later. If a
    new resource could be created at some of its sites only, the gateway removes the copies there, later if necessary. Each gateway retries
    its operations until they are done.
    """
    from atoll.site.gateway_client import ask

    found = ask(session.state, site, "pending")
    if as_json:
        print_json(found)
        return
    if not found["pending"]:
        click.echo("no operation waits for another site")
        return
    table = new_table("SITE", "OPERATION", "SINCE", "REFUSALS", "REASON", numbers=("REFUSALS",))
    for each in found["pending"]:
        table.add_row(each["site"], each["what"], each["since"], str(each["attempts"]), each["error"])
    data_console().print(table)

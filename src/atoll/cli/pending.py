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

    If a resource has copies at several sites, a change reaches sites that are unreachable now later. So does the removal of copies, if a
    new resource could be created only at some of its sites. Each gateway retries the operations that it accepted until they are done.
    """
    from atoll.site.gateway_client import ask

    found = ask(session.state, site, "pending")
    if as_json:
        print_json(found)
        return
    if not found["pending"]:
        click.echo("nothing waits")
        return
    table = new_table("SITE", "WHAT", "SINCE", "REFUSED", "WHY")
    for each in found["pending"]:
        table.add_row(each["site"], each["what"], each["since"], str(each["attempts"]), each["error"])
    data_console().print(table)

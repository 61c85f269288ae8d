"""`atoll conflicts`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from atoll.cli.output import data_console, print_json
from atoll.cli.session import Session
from atoll.cli.verb import complete_site, json_option, verb

if TYPE_CHECKING:
    from rich.table import Table


@verb("conflicts", "atoll conflicts\natoll conflicts paris --json")
@json_option
@click.argument("site", required=False, metavar="[SITE]", shell_complete=complete_site)
@click.pass_obj
def command(session: Session, site: str | None, *, as_json: bool) -> None:
    """List names given twice, and ids that mean different things.

    Of two resources that two sites gave one name while they were apart, both are kept. The one made first keeps it, the other one's got a
    suffix, the same at every site.
    Rename or delete one of them with the usual client, and the conflict is gone.

    Of different things under one id none is copied, shared or changed by a gateway. Delete the one that does not belong there.
    """
    from atoll.site.gateway_client import ask

    found = ask(session.state, site, "GET", "/conflicts")
    if as_json:
        print_json(found)
        return
    differing = found.get("differing", [])
    if not found["conflicts"] and not differing:
        click.echo("no name is used twice, and no id is of different things")
        return
    if found["conflicts"]:
        data_console().print(_names(found["conflicts"]))
    if differing:
        data_console().print(_ids(differing))


def _names(conflicts: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("KIND", "NAME", "KEPT BY", "RENAMED", "IS CALLED"):
        table.add_column(title, no_wrap=True)
    for each in conflicts:
        table.add_row(each["kind"], each["name"], each["kept"], each["renamed"], each["new_name"])
    return table


def _ids(differing: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("KIND", "ID", "SITES", "SINCE", "WHY"):
        table.add_column(title, no_wrap=title != "WHY")
    for each in differing:
        table.add_row(each["kind"], each["id"], ",".join(each["sites"]), each["since"], each["why"])
    return table

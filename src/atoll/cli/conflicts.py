"""`atoll conflicts`: lists conflicts between sites."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from atoll.cli.output import data_console, new_table, print_json
from atoll.cli.session import Session
from atoll.cli.verb import complete_site, json_option, verb

if TYPE_CHECKING:
    from rich.table import Table


@verb("conflicts", "atoll conflicts\natoll conflicts paris --json")
@json_option
@click.argument("site", required=False, metavar="[SITE]", shell_complete=complete_site)
@click.pass_obj
def command(session: Session, site: str | None, *, as_json: bool) -> None:
    """List conflicts between sites: two resources with one name or id, and copies that differ.

    If two sites gave two users, projects, domains, groups or roles the same name while they were separated, both are kept. The first one
    keeps the name; the name of the other one gets a suffix, which is the same at every site. To solve the conflict, rename or delete one
    of the two.

    If different resources have the same id, no gateway copies, shares or changes any of them: delete the wrong one. If the copies of a
    resource differ, because a site has refused a change, repeat the change, or delete the copy that differs.
    """
    from atoll.site.gateway_client import ask

    found = ask(session.state, site, "conflicts")
    if as_json:
        print_json(found)
        return
    differing = found.get("differing", [])
    if not found["conflicts"] and not differing:
        click.echo("there are no conflicts")
        return
    if found["conflicts"]:
        data_console().print(_names(found["conflicts"]))
    if differing:
        data_console().print(_ids(differing))


def _names(conflicts: list[dict[str, Any]]) -> Table:
    table = new_table("KIND", "NAME", "ID WITH NAME", "RENAMED ID", "NEW NAME")
    for each in conflicts:
        table.add_row(each["kind"], each["name"], each["kept"], each["renamed"], each["new_name"])
    return table


def _ids(differing: list[dict[str, Any]]) -> Table:
    table = new_table("KIND", "ID", "SITES", "SINCE", "REASON", wrapped=("REASON",))
    for each in differing:
        table.add_row(each["kind"], each["id"], ",".join(each["sites"]), each["since"], each["why"])
    return table

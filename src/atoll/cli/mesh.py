"""`atoll mesh`: shows the members of the cloud."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from atoll.cli.output import data_console, new_table, print_json
from atoll.cli.session import Session
from atoll.cli.verb import complete_site, json_option, verb

if TYPE_CHECKING:
    from rich.table import Table

_STYLES = {"alive": "green", "suspect": "yellow", "unreachable": "bold red", "revoked": "bold red", "left": "dim"}


@verb("mesh", "atoll mesh\natoll mesh paris --json")
@json_option
@click.argument("site", required=False, metavar="[SITE]", shell_complete=complete_site)
@click.pass_obj
def command(session: Session, site: str | None, *, as_json: bool) -> None:
    """Show the members of the cloud, as one site sees them.

    RTT is estimated from network coordinates. Without SITE, the command asks the first site that runs.
    """
    from atoll.site.gateway_client import ask_any

    found = ask_any(session.state, site, "members")
    if as_json:
        print_json(found)
        return
    data_console().print(_table(found))
    if ahead_s := found["clock_ahead_s"]:
        way = "ahead of" if ahead_s > 0 else "behind"
        data_console().print(
            f"The clock of {found['site']} is {abs(ahead_s):.1f} s {way} the other sites' clocks: correct it.", soft_wrap=True
        )


def _table(found: dict[str, Any]) -> Table:
    from atoll.cli.tables import styled

    table = new_table("MEMBER", "STATE", "RTT", "GATEWAY", numbers=("RTT",))
    for member in found["members"]:
        state = "here" if member["name"] == found["site"] else member["state"]
        rtt = "" if member.get("rtt_ms") is None or state == "here" else f"{member['rtt_ms']:.1f} ms"
        address = f"http://{member['host']}:{member['public_port']}"
        table.add_row(member["name"], styled(state, _STYLES.get(state)), rtt, address)
    return table

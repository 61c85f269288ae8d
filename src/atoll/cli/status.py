"""`atoll status`: shows the processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from atoll.cli.output import STATE_STYLES, data_console, duration, megabytes, new_table, print_json
from atoll.cli.session import Session
from atoll.cli.verb import complete_site, json_option, verb

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from atoll.site.status import CloudStatus, Row


@verb("status", "atoll status\natoll status paris --json")
@json_option
@click.argument("sites", nargs=-1, metavar="[SITE]...", shell_complete=complete_site)
@click.pass_obj
def command(session: Session, sites: tuple[str, ...], *, as_json: bool) -> None:
    """Show the state, memory and uptime of every process.

    MEMORY is the proportional set size: memory that several processes share is divided among them. For a cloud on a testbed, the command
    shows the sites and their hosts instead of processes.
    """
    from atoll.cli import testbeds

    if testbeds.is_there(session):
        testbeds.status(session, sites, as_json=as_json)
        return
    from atoll.site.status import status

    found = status(session.state, sites)
    if as_json:
        print_json(found.to_json())
        return
    if not found.running and found.supervisor is None:
        click.echo("no site is running")
        return
    data_console().print(_table(found))


def _table(found: CloudStatus) -> Table:
    numbers = ("PID", "MEMORY", "UPTIME", "RESTARTS")
    table = new_table("SERVICE", "STATE", *numbers, numbers=numbers)
    for each in found.sites:
        for row in each.processes:
            _add(table, row.name, row)
        what = f"{each.name}, of {each.control}" if each.control else each.name
        if each.database not in {"", "sqlite"}:
            table.add_row(f"{each.name}: databases in {each.database}", *[""] * 5)
        _add_total(table, f"{what}: total", each.state, each.memory_bytes)
    for row in found.jobs:
        _add(table, row.name, row)
    for row in found.fork_servers:
        _add(table, f"fork server {row.name}", row)
    if found.supervisor:
        _add(table, "supervisor", found.supervisor)
    _add_total(table, "total", "", found.memory_bytes)
    return table


def _add(table: Table, name: str, row: Row) -> None:
    pid = "" if row.pid is None else str(row.pid)
    table.add_row(name, _state(row.state), pid, megabytes(row.memory_bytes), duration(row.uptime_s), str(row.restarts))


def _add_total(table: Table, name: str, state: str, memory: int) -> None:
    from atoll.cli.tables import styled

    table.add_row(styled(name, "bold"), _state(state), "", styled(megabytes(memory), "bold"), "", "", end_section=True)


def _state(state: str) -> Text:
    from atoll.cli.tables import styled

    return styled(state, STATE_STYLES.get(state))

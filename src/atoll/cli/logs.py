"""`atoll logs`: shows logs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from atoll.cli.output import plain
from atoll.cli.session import Session
from atoll.cli.verb import complete_site, verb

if TYPE_CHECKING:
    from atoll.site.logs import Log


@verb("logs", "atoll logs paris/nova\natoll logs -f -n 0 paris")
@click.option("-f", "--follow", is_flag=True, help="Print new lines as they are written, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(min=0), default=50, show_default=True, help="Number of last lines of each log.")
@click.argument("target", required=False, metavar="[SITE[/SERVICE]]", shell_complete=complete_site)
@click.pass_obj
def command(session: Session, target: str | None, *, follow: bool, lines: int) -> None:
    """Show the logs of a service, of a site, or of all sites.

    Two other logs exist: `supervisor`, and `template/SERVICE` for the creation of a service's database schema.
    """
    from atoll.site.logs import follow as followed
    from atoll.site.logs import logs_of

    logs = logs_of(session.state, target)
    width = max((len(log.name) for log in logs), default=0) if len(logs) > 1 else 0
    for log in logs:
        for line in log.tail(lines):
            _write(log, line, width)
    if follow:
        sys.stdout.flush()
        with suppress(KeyboardInterrupt):
            for log, line in followed(logs):
                _write(log, line, width)
                sys.stdout.flush()
    elif not any(log.path.exists() for log in logs):
        _say_nothing(logs)


def _write(log: Log, line: str, width: int) -> None:
    shown = plain(line.expandtabs())
    print(f"{log.name:{width}} | {shown}" if width else shown)


def _say_nothing(logs: Sequence[Log]) -> None:
    names = ", ".join(log.name for log in logs)
    click.echo(f"no log has been written yet{f': {names}' if names else ''}", err=True)

"""`atoll database`: moves a site's databases to another engine or server."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from atoll.cli.output import print_json
from atoll.cli.session import Session
from atoll.cli.verb import complete_site, group, json_option, verb

if TYPE_CHECKING:
    from atoll.site.moves import Moved

PLACES = ("sqlite", "start:redis", "start:mariadb", "start:postgresql", "redis://", "mysql+pymysql://", "postgresql+psycopg://")
"""The beginnings of the values that PLACE may have, for completion."""


@group("database", "atoll database move paris start:mariadb\natoll database clean paris")
def command() -> None:
    """Move a site's databases to another engine or server."""


def complete_place(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return completions for the argument PLACE."""
    return [CompletionItem(place, type="nospace" if place.endswith("/") else "plain") for place in PLACES if place.startswith(incomplete)]


@verb(
    "move",
    "atoll site stop paris\natoll database move paris start:mariadb\n"
    "atoll database move paris postgresql+psycopg://atoll@10.0.0.1 --password-file /etc/atoll-database.password",
)
@click.option(
    "--password-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The file that contains only the password of the URL's user.",
)
@click.option("--same-data", is_flag=True, help="PLACE is the server that the site uses, at another address: copy nothing.")
@json_option
@click.argument("site", shell_complete=complete_site)
@click.argument("place", shell_complete=complete_place)
@click.pass_obj
def move(session: Session, /, site: str, place: str, *, as_json: bool, **said: Any) -> None:
    """Move the databases of a stopped site to another engine or server.

    PLACE is `sqlite`, `start:redis`, `start:mariadb` or `start:postgresql` for a server that the site starts itself, or the URL of an
    existing server, without a password. All rows are copied and compared before the site uses the new place. If the command fails or is
    interrupted, the site keeps its data where they are, and the same command continues. The old data stay until `atoll database clean`.
    """
    from atoll.cli.progress import Progress
    from atoll.cloud.databases import parse_database
    from atoll.site import moves

    begun = time.monotonic()
    wanted = parse_database(place, str(said["password_file"].absolute()) if said["password_file"] else None)
    with Progress("moving the databases") as progress:
        if said["same_data"]:
            found = moves.readdress(session.state, session.cache, site, wanted)
        else:
            found = moves.move(session.state, session.cache, site, wanted, progress.event)
    seconds = time.monotonic() - begun
    if as_json:
        print_json({**asdict(found), "seconds": round(seconds, 2)})
        return
    if not found.moved:
        click.echo(f"the databases of {site} are in {found.now} already")
        return
    _tell(session, found, seconds)


def _tell(session: Session, found: Moved, seconds: float) -> None:
    rows, tables = (sum(getattr(each, name) for each in found.databases.values()) for name in ("rows", "tables"))
    click.echo(f"moved in {seconds:.1f} s: {found.site}, from {found.before} to {found.now}; {rows} rows of {tables} tables were compared")
    field = found.field if isinstance(found.field, str) else json.dumps(found.field)
    steps = {
        f"database: {field}": f"write this into the cloud's YAML, at {found.site}",
        f"{session.program} site start {found.site}": "start the site with its new databases",
        f"{session.program} database clean {found.site}": "then delete the old data for good",
    }
    width = max(map(len, steps))
    for step, why in steps.items():
        click.echo(f"  {step:{width}}  # {why}")


@verb("clean", "atoll database clean paris\natoll database clean --yes paris")
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
@click.argument("site", shell_complete=complete_site)
@click.pass_obj
def clean(session: Session, site: str, *, yes: bool, as_json: bool) -> None:
    """Delete the old databases that earlier moves of a site have left.

    The databases that the site uses now stay. If there is nothing to delete, the command succeeds.
    """
    from atoll.cli.destroy import confirm
    from atoll.site.moves import clean as cleaned
    from atoll.site.moves import left_behind

    left = left_behind(session.state, site)
    if left and not yes:
        confirm(f"Delete the old data of {site} in {', '.join(left)} for good?")
    gone = cleaned(session.state, site) if left else ()
    if as_json:
        print_json({"site": site, "deleted": list(gone)})
    else:
        click.echo(f"deleted: {', '.join(gone)}" if gone else f"{site} has no old data")


for each in (move, clean):
    command.add_command(each)

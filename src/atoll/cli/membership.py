"""`atoll site invite, join, leave, revoke`: who belongs to the cloud."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from atoll.cli.output import print_json
from atoll.cli.session import Session
from atoll.cli.verb import complete_site, json_option, verb

_at = click.option("--at", metavar="SITE", shell_complete=complete_site, help="The site that is asked. [default: the first]")


@verb("invite", "atoll site invite nice\natoll site invite nice --at lyon --minutes 10 --json")
@_at
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=60, show_default=True, help="How long the token is good.")
@json_option
@click.argument("name")
@click.pass_obj
def invite(session: Session, name: str, at: str | None, minutes: float, *, as_json: bool) -> None:
    """Print a token with which a site can join.

    A site on another machine, or with another state directory, joins this cloud with it. It is good once, for a site of this name.
    Whoever has it can join: hand it over as you would a password.
    """
    from atoll.site.gateway_client import ask

    found = ask(session.state, at, "POST", "/invite", {"name": name, "lifetime_s": minutes * 60})
    if as_json:
        print_json(found)
    else:
        click.echo(found["token"])


@verb("join", "atoll site join atoll1.WyJuaWNl… --host 192.0.2.7\natoll site join - --host 192.0.2.7 < token")
@click.option("--host", default="127.0.0.1", show_default=True, help="The IPv4 address at which the other sites find this one.")
@click.option("--port", type=click.IntRange(1024, 65520), help="Base port. [default: 15000]")
@click.option(
    "--admin-password-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file with the password of the cloud's user admin; without it, `clouds.yaml` here has a wrong one.",
)
@json_option
@click.argument("token")
@click.pass_obj
def join(  # noqa: PLR0913, PLR0917, RUF100 - each is an option
    session: Session, token: str, host: str, port: int | None, admin_password_file: Path | None, *, as_json: bool
) -> None:
    """Make a site here that joins the cloud of a token.

    The site is brought up. It learns the cloud's users, and lists the other sites' servers as they list its own. TOKEN may be `-` for
    standard input, where others can't see it.
    """
    from atoll.cli.progress import Progress
    from atoll.site.joining import join as joined
    from atoll.site.passwords import read_password

    begun = time.monotonic()
    text = sys.stdin.read() if token == "-" else token  # noqa: S105
    password = read_password(admin_password_file, "admin") if admin_password_file else None
    with Progress("joining") as progress:
        outcome = joined(session.state, session.cache, text, host, port, password, progress.event)
    site, seconds = outcome.cloud.sites[0], time.monotonic() - begun
    if as_json:
        print_json({"site": site.name, "cloud": outcome.cloud.name, "url": site.url, "seconds": round(seconds, 2)})
    else:
        click.echo(f"{site.name} has joined {outcome.cloud.name} in {seconds:.1f} s: {site.url}")


@verb("leave", "atoll site leave nice")
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@json_option
@click.argument("site", metavar="SITE", shell_complete=complete_site)
@click.pass_obj
def leave(session: Session, site: str, *, yes: bool, as_json: bool) -> None:
    """Take a site out of its cloud, in good order.

    It keeps all it holds, and goes on as a cloud of its own; its name can't be used again in the one it left.
    """
    from atoll.cli.destroy import confirm
    from atoll.site.gateway_client import ask

    if not yes:
        confirm(f"Take {site} out of the cloud?")
    ask(session.state, site, "POST", "/leave")
    if as_json:
        print_json({"left": site})
    else:
        click.echo(f"left: {site}")


@verb("revoke", "atoll site revoke nice --at paris")
@_at
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@json_option
@click.argument("site", metavar="SITE")
@click.pass_obj
def revoke(session: Session, site: str, at: str | None, *, yes: bool, as_json: bool) -> None:
    """Shut a stolen site out, for ever.

    Its certificate, its tokens and whatever it writes count nowhere from the moment a site learns of this, which those that are cut off do
    when they are back. A compute site's certificate opens nothing at its control site from now on.
    """
    from atoll.cli.destroy import confirm
    from atoll.site import revocation

    if not yes:
        confirm(f"Revoke {site} for good?")
    revocation.revoke(session.state, site, at)
    if as_json:
        print_json({"revoked": site})
    else:
        click.echo(f"revoked: {site}")

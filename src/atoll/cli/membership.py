"""`atoll site invite`, `join`, `leave` and `revoke`: membership of the cloud."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from atoll.cli.output import print_json
from atoll.cli.session import Session
from atoll.cli.verb import complete_site, json_option, verb

_at = click.option("--at", metavar="SITE", shell_complete=complete_site, help="The site to ask. [default: the first that runs]")


@verb("invite", "atoll site invite nice\natoll site invite nice --at lyon --minutes 10 --json")
@_at
@click.option(
    "--minutes", type=click.FloatRange(min=0, min_open=True), default=60, show_default=True, help="Minutes until the token expires."
)
@json_option
@click.argument("name")
@click.pass_obj
def invite(session: Session, name: str, at: str | None, minutes: float, *, as_json: bool) -> None:
    """Print a token with which a site can join the cloud.

    A site on another machine, or with another state directory, joins with this token. The token is valid once, for a site of this name.
    Anyone who has the token can join: treat it like a password.
    """
    from atoll.site.gateway_client import ask_any

    found = ask_any(session.state, at, "invite", name=name, lifetime_s=minutes * 60)
    if as_json:
        print_json(found)
    else:
        click.echo(found["token"])


@verb("join", "atoll site join atoll1.WyJuaWNl… --host 192.0.2.7\natoll site join - --host 192.0.2.7 < token")
@click.option("--host", default="127.0.0.1", show_default=True, help="The IPv4 address at which the other sites reach this one.")
@click.option("--port", type=click.IntRange(1024, 65520), help="Base port. [default: 15000]")
@click.option(
    "--admin-password-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file with the password of the cloud's user admin, for `clouds.yaml`; without it, the password there is invalid.",
)
@json_option
@click.argument("token")
@click.pass_obj
def join(  # noqa: PLR0913 - each is an option
    session: Session, token: str, host: str, port: int | None, admin_password_file: Path | None, *, as_json: bool
) -> None:
    """Create a site that joins the cloud that TOKEN names.

    The command starts the site, which receives the cloud's users. From then on, each site lists the servers of all sites. If TOKEN is `-`,
    the command reads the token from standard input, so that other users of this machine can't see it.
    """
    from atoll.cli.progress import Progress
    from atoll.site.joining import join as joined
    from atoll.site.passwords import read_password

    begun = time.monotonic()
    text = sys.stdin.read() if token == "-" else token  # noqa: S105 - "-" is standard input
    password = read_password(admin_password_file, "admin") if admin_password_file else None
    with Progress("joining") as progress:
        outcome = joined(session.state, session.cache, text, host, port, password, progress.event)
    site, seconds = outcome.cloud.sites[0], time.monotonic() - begun
    if as_json:
        print_json({"site": site.name, "cloud": outcome.cloud.name, "url": site.url, "seconds": round(seconds, 2)})
    else:
        click.echo(f"{site.name} has joined {outcome.cloud.name} in {seconds:.1f} s: {site.url}")


@verb("leave", "atoll site leave nice")
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
@click.argument("site", metavar="SITE", shell_complete=complete_site)
@click.pass_obj
def leave(session: Session, site: str, *, yes: bool, as_json: bool) -> None:
    """Remove a site from its cloud while it runs.

    The site keeps its data, and continues as a cloud of its own. Its name can't be used again in the cloud that it has left.
    """
    from atoll.cli.destroy import confirm
    from atoll.site.gateway_client import ask

    if not yes:
        confirm(f"Remove {site} from the cloud?")
    ask(session.state, site, "leave")
    if as_json:
        print_json({"left": site})
    else:
        click.echo(f"{site} has left the cloud")


@verb("revoke", "atoll site revoke nice --at paris")
@_at
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
@click.argument("site", metavar="SITE")
@click.pass_obj
def revoke(session: Session, site: str, at: str | None, *, yes: bool, as_json: bool) -> None:
    """Exclude a stolen site from the cloud permanently.

    Every site that receives the revocation rejects the site's certificate, its tokens and its changes; a site that is cut off receives it
    when its link is back. The certificate of a compute site is rejected by its control site.
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

"""`atoll openstack`: runs OpenStack's unmodified client for a site."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from atoll.cli.session import Session
from atoll.cli.verb import Verb, complete_site, verb
from atoll.errors import AtollError


class _PassThrough(Verb):
    """A verb that passes all arguments to OpenStack's client unchanged, except its own options, which come first."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        count = 0
        if args[:1] in (["--help"], ["-h"]):
            count = 1
        elif args[:1] == ["--site"]:
            count = 2
        elif args and args[0].startswith("--site="):
            count = 1
        return super().parse_args(ctx, args[:count] if len(args) <= count else [*args[:count], "--", *args[count:]])


@verb(
    "openstack",
    "atoll openstack server list\natoll openstack --site paris server create --help",
    cls=_PassThrough,
    options_metavar="[--site SITE]",
)
@click.option("--site", metavar="SITE", shell_complete=complete_site, help="The site. [default: the first]")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ARGS]...")
@click.pass_obj
def command(session: Session, site: str | None, arguments: tuple[str, ...]) -> None:
    """Run OpenStack's unmodified client as a site's administrator.

    For a compute site, this is the administrator of its control site. --site comes first; all arguments after it are the client's own:
    `atoll openstack help` lists them.
    """
    from atoll.runtime.client import connect
    from atoll.site import wan
    from atoll.site.clients import client_environment
    from atoll.site.sites import applied_cloud, site_settings

    state = session.state
    state.check()
    settings = site_settings(state, site)
    if connect(state.root) is None:
        raise AtollError("site.not_running", f"{settings.site} is not running", "bring it up with `atoll up`")
    # The client is beside the interpreter. Links are not resolved: their targets are outside of the environment.
    program = Path(sys.executable).with_name("openstack")
    if not program.exists():
        raise AtollError("cloud.not_found", f"{program} is missing: expected OpenStack's client beside atoll", "`make install`")
    wan.enter(state, applied_cloud(state), settings.site)
    sys.stdout.flush()
    session.restore()
    os.execve(program, ["openstack", *arguments], client_environment(settings, state.clouds_file, os.environ))  # noqa: S606 - replaces this process

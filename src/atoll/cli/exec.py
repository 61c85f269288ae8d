"""`atoll exec`: runs a program inside a site."""

from __future__ import annotations

import os

import click

from atoll.cli.session import Session
from atoll.cli.verb import complete_site, verb

_AS_TYPED = {"allow_interspersed_args": False, "ignore_unknown_options": True}
"""Settings of click with which all arguments after the site are passed to the program unchanged."""


@verb(
    "exec",
    "atoll exec paris -- openstack server list\natoll exec lyon -- ping -c 3 10.77.0.1",
    context_settings=_AS_TYPED,
)
@click.argument("site", shell_complete=complete_site)
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED, metavar="[--] PROGRAM [ARGS]...")
@click.pass_obj
def command(session: Session, site: str, program: tuple[str, ...]) -> None:
    """Run a program inside SITE.

    If the cloud has a topology, the program runs in the site's own network. It has the OS_* variables of the site's administrator; for a
    compute site, those of its control site. Files and processes are those of this machine. The exit code is the program's.
    """
    from atoll.site.inside import place

    words = program[1:] if program[0] == "--" else program
    if not words:
        raise click.UsageError("no program is given: expected a program and its arguments")
    found = place(session.state, site)
    session.restore()
    found.replace(words, found.environment(os.environ))

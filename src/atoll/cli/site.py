"""`atoll site`: operations on single sites while the other sites keep running, and membership of the cloud."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from atoll.cli.membership import invite, join, leave, revoke
from atoll.cli.output import print_json
from atoll.cli.session import Session
from atoll.cli.verb import complete_site, group, json_option, verb
from atoll.cli.wan import parse_changes

if TYPE_CHECKING:
    from atoll.site.up import Outcome


@group("site", "atoll site kill paris\natoll site start paris\natoll site add nice --link lyon:delay=3ms")
def command() -> None:
    """Stop, start, add, remove sites; join or leave a cloud.

    The other sites keep running. If a site is already in the requested state, the command succeeds.
    """


_sites = click.argument("sites", nargs=-1, required=True, metavar="SITE...", shell_complete=complete_site)


@verb("start", "atoll site start paris\natoll site start paris lyon --json")
@json_option
@_sites
@click.pass_obj
def start(session: Session, sites: tuple[str, ...], *, as_json: bool) -> None:
    """Start stopped or killed sites.

    The sites keep their data, and the other sites do not change. A compute site needs a running control site.
    """
    from atoll.cli.progress import Progress
    from atoll.site.single_sites import start as started

    begun = time.monotonic()
    with Progress("starting") as progress:
        outcome = started(session.state, session.cache, sites, progress.event)
    _tell_started(outcome, sites, time.monotonic() - begun, as_json=as_json)


@verb("stop", "atoll site stop paris")
@json_option
@_sites
@click.pass_obj
def stop(session: Session, sites: tuple[str, ...], *, as_json: bool) -> None:
    """Stop the processes of sites one after the other, and keep their data.

    `atoll site start` starts them again. In a topology, the network of a stopped site still forwards packets.
    """
    from atoll.cli.progress import Progress
    from atoll.site.single_sites import stop as stopped

    with Progress("stopping") as progress:
        ran = stopped(session.state, sites, progress.event)
    _tell("stopped", ran, sites, as_json=as_json)


@verb("kill", "atoll site kill paris")
@json_option
@_sites
@click.pass_obj
def kill(session: Session, sites: tuple[str, ...], *, as_json: bool) -> None:
    """Kill sites, like a power cut.

    All processes of the sites get SIGKILL at the same time, and only `atoll site start` starts them again. In a topology, all links of the
    sites are cut first, so that no site is notified; the start heals them.
    """
    from atoll.cli.progress import Progress
    from atoll.site.single_sites import kill as killed

    with Progress("killing") as progress:
        ran = killed(session.state, sites, progress.event)
    _tell("killed", ran, sites, as_json=as_json)


class _Link(click.ParamType[tuple[str, dict[str, str]]]):
    """The other end of a link, with the link's properties."""

    name = "OTHER[:NAME=VALUE,…]"

    def convert(self, value: Any, _param: click.Parameter | None, _ctx: click.Context | None) -> tuple[str, dict[str, str]]:
        """Return the name of the other end, and the properties as text."""
        if isinstance(value, tuple):
            return value
        other, colon, shape = value.partition(":")
        words = shape.split(",") if colon else []
        parse_changes(words)
        return other, {word.partition("=")[0]: word.partition("=")[2] for word in words}


class _Location(click.ParamType[tuple[float, float]]):
    """A latitude and a longitude."""

    name = "LATITUDE,LONGITUDE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, float]:
        """Return latitude and longitude, in degrees."""
        if isinstance(value, tuple):
            return value
        try:
            latitude, longitude = map(float, value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not latitude and longitude in degrees, such as 43.70,7.27", param, ctx)
        return latitude, longitude


@verb(
    "add", "atoll site add nice --link lyon:delay=3ms,loss=0.1% --link paris\natoll site add edge --kind compute --control lyon --link lyon"
)
@click.option(
    "--kind", type=click.Choice(["full", "compute"]), default="full", show_default=True, help="A complete OpenStack, or nova-compute alone."
)
@click.option("--control", metavar="SITE", shell_complete=complete_site, help="The control site of a compute site.")
@click.option("--link", "links", type=_Link(), multiple=True, help="A link of the new site, in addition to those of the topology's preset.")
@click.option("--location", type=_Location(), help="Location in degrees, for a topology that derives delays from distances.")
@json_option
@click.argument("name")
@click.pass_obj
def add(session: Session, /, name: str, *, as_json: bool, links: tuple[tuple[str, dict[str, str]], ...], **said: Any) -> None:
    """Add a site to the running cloud, and bring it up.

    In a topology, the site gets a network of its own, the links of the topology's preset, and the links given here.
    """
    from atoll.cli.progress import Progress
    from atoll.cloud.changes import NewSite
    from atoll.cloud.summary import summary_of_site
    from atoll.site.single_sites import add as added

    begun = time.monotonic()
    with Progress("adding a site") as progress:
        outcome = added(session.state, session.cache, NewSite(name=name, links=dict(links), **said), progress.event)
    seconds = time.monotonic() - begun
    found = summary_of_site(outcome.cloud, name)
    if as_json:
        print_json({**found, "seconds": round(seconds, 2), "started": list(outcome.started)})
        return
    what = f"compute site of {found['control']}" if found["control"] else str(found["url"])
    click.echo(f"added in {seconds:.1f} s: {name}  {what}" if outcome.started else f"{name} exists already, and is up: {what}")
    _tell_restarted(outcome, [name])


@verb("remove", "atoll site remove nice\natoll site remove --yes edge")
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
@_sites
@click.pass_obj
def remove(session: Session, sites: tuple[str, ...], *, yes: bool, as_json: bool) -> None:
    """Remove sites from the cloud, and delete their data.

    The links of the sites are removed too. The last site can't be removed, and neither can a site without which others would not be
    connected.
    """
    from atoll.cli.destroy import confirm
    from atoll.cli.progress import Progress
    from atoll.site.single_sites import remove as removed
    from atoll.site.sites import known_sites

    there = [name for name in known_sites(session.state) if name in sites]
    if there and not yes:
        confirm(f"Delete {', '.join(there)} in {session.state.root} for good?")
    with Progress("removing") as progress:
        gone = removed(session.state, sites, progress.event)
    _tell("removed", gone, sites, as_json=as_json, otherwise="not_there")


for each in (start, stop, kill, add, remove, invite, join, leave, revoke):
    command.add_command(each)


def _tell(what: str, done: Sequence[str], asked: Iterable[str], *, as_json: bool, otherwise: str = "not_running") -> None:
    left = [name for name in dict.fromkeys(asked) if name not in done]
    if as_json:
        print_json({what: list(done), otherwise: left})
        return
    for word, names in ((what, done), (otherwise.replace("_", " "), left)):
        if names:
            click.echo(f"{word}: {', '.join(names)}")


def _tell_started(outcome: Outcome, asked: Sequence[str], seconds: float, *, as_json: bool) -> None:
    changed = {name.partition("/")[0] for name in outcome.started}
    done = [name for name in dict.fromkeys(asked) if name in changed]
    left = [name for name in dict.fromkeys(asked) if name not in changed]
    if as_json:
        print_json({"started": done, "already_up": left, "seconds": round(seconds, 2)})
        return
    if done:
        click.echo(f"started in {seconds:.1f} s: {', '.join(done)}")
    if left:
        click.echo(f"already up: {', '.join(left)}")
    _tell_restarted(outcome, asked)


def _tell_restarted(outcome: Outcome, asked: Sequence[str]) -> None:
    """Print the processes of other sites that were started, such as the bus of a site that became a control site."""
    others = [name for name in outcome.started if name.partition("/")[0] not in (*asked, "template")]
    if others:
        click.echo(f"also started: {', '.join(others)}")
    sys.stdout.flush()

"""`atoll tempest-conf`: prints a tempest.conf."""

from __future__ import annotations

import click

from atoll.cli.session import Session
from atoll.cli.verb import complete_site, verb


@verb("tempest-conf", "tempest init trial && atoll tempest-conf > trial/etc/tempest.conf\ncd trial && tempest run --smoke")
@click.option("--create/--no-create", default=True, show_default=True, help="Whether to create missing resources that Tempest needs.")
@click.argument("site", required=False, shell_complete=complete_site)
@click.pass_obj
def command(session: Session, site: str | None, *, create: bool) -> None:
    """Print a tempest.conf for SITE, by default the cloud's first.

    Tempest is OpenStack's test suite. It needs two public images, two flavors and an external network; missing ones are created, with a
    message on standard error.
    """
    from atoll.errors import AtollError
    from atoll.guest import build
    from atoll.runtime.client import connect
    from atoll.site import wan
    from atoll.site.sites import applied_cloud, site_settings
    from atoll.tempest.configuration import tempest_conf
    from atoll.tempest.resources import Lookup

    session.state.check()
    settings = site_settings(session.state, site)
    if connect(session.state.root) is None:
        raise AtollError("site.not_running", f"{settings.site} is not running", "bring it up with `atoll up`")
    # Build the image before this process enters the site's network, because apt may have to fetch a kernel.
    guests = create and settings.hypervisor != "fake"
    image = build(session.cache, None, _say).path if guests else None
    wan.enter(session.state, applied_cloud(session.state), settings.site)
    lookup = Lookup(settings, create=create, report=_say, guest_image=image)
    click.echo(tempest_conf(settings, lookup.resources()), nl=False)


def _say(text: str) -> None:
    click.echo(text, err=True)

"""`atoll cloudlet handoff`: a server goes to another site."""

from __future__ import annotations

from dataclasses import asdict

import click

from atoll.cli.bar import Bar
from atoll.cli.cloudlet_find import complete_cloud
from atoll.cli.output import plain, print_json
from atoll.cli.verb import complete_site, json_option, verb


@verb("handoff", "atoll cloudlet handoff --cloud paris web lyon\natoll cloudlet handoff --cloud paris web lyon --json")
@click.option(
    "--cloud", metavar="NAME", shell_complete=complete_cloud, help="The cloud in clouds.yaml. [default: OS_CLOUD, or OS_AUTH_URL …]"
)
@json_option
@click.argument("server", metavar="SERVER")
@click.argument("site", metavar="SITE", shell_complete=complete_site)
def command(cloud: str | None, server: str, site: str, *, as_json: bool) -> None:
    """Hand off SERVER, a name or an id, to SITE.

    The server's disk is copied while the server runs. Then the server is stopped, the last changes are copied, and it starts at SITE, with
    its id, name, flavor, key pair, security groups, metadata and MAC addresses. It goes on with its memory if both sites have QEMU 9.0 and
    libvirt 11.2 or newer and the same CPU; otherwise it boots. Its address at SITE is printed. If the command is interrupted, the hand-off
    goes on; the same command shows it again, or continues it.
    """
    from atoll.cloudlet.handoff_request import HandoffClient

    with Bar() as bar:
        done = HandoffClient(cloud).hand_off(server, site, bar)
    if as_json:
        print_json(asdict(done))
        return
    addresses = ", ".join(each["address"] for each in done.addresses)
    where = f"{done.server} is at {done.site}" + (f" ({addresses})" if addresses else "")
    click.echo(plain(f"{where}, {done.seconds:.1f} s after the hand-off from {done.source} began" if done.source else f"{where} already"))

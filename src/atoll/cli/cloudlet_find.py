"""`atoll cloudlet find`: finds the site nearest to a device."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from uuid import UUID

import click
from click.shell_completion import CompletionItem

from atoll.cli.output import plain, print_json
from atoll.cli.verb import json_option, verb


class _Address(click.ParamType[IPv4Address | IPv6Address]):
    """An IPv4 or IPv6 address."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> IPv4Address | IPv6Address:
        if isinstance(value, IPv4Address | IPv6Address):
            return value
        try:
            return ip_address("" if "%" in value else value)  # refuse an IPv6 zone, which means something only on the device itself
        except ValueError:
            self.fail(f"{value} is not an IPv4 or IPv6 address.", param, ctx)


def complete_cloud(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return completions for the name of a cloud in clouds.yaml."""
    from openstack.config import OpenStackConfig

    return [CompletionItem(name) for name in sorted(OpenStackConfig().get_cloud_names()) if name.startswith(incomplete)]


@verb("find", "atoll cloudlet find --cloud paris\natoll cloudlet find --cloud paris --device 10.1.2.3 --json")
@click.option(
    "--cloud", metavar="NAME", shell_complete=complete_cloud, help="The cloud in clouds.yaml. [default: OS_CLOUD, or OS_AUTH_URL …]"
)
@click.option("--device", type=_Address(), metavar="ADDRESS", help="The device's address. [default: the device that asks]")
@click.option(
    "--overlay", type=click.UUID, metavar="ID", help="Prefer a near site that holds the base or the launch image of this overlay."
)
@json_option
def command(cloud: str | None, device: IPv4Address | IPv6Address | None, overlay: UUID | None, *, as_json: bool) -> None:
    """Print the site that is nearest to a device and has room for another server.

    The command asks the gateway that the credentials name (CAMARA Simple Edge Discovery). Only users with a role that the operator names
    may ask about another device; they must give --device.
    """
    from atoll.cloudlet.find import find

    zone = find(cloud, device, str(overlay) if overlay else None)
    if as_json:
        print_json(zone.data())
    else:
        click.echo(plain(f"{zone.name}  {zone.region}  {zone.url}"))

"""`atoll cloudlet find`: finds the site nearest to a device, by a gateway or on the local network."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
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


@verb(
    "find",
    "atoll cloudlet find --cloud paris\n"
    "atoll cloudlet find --cloud paris --device 10.1.2.3 --json\n"
    "atoll cloudlet find --local --ca ca.pem --network wlan0",
)
@click.option(
    "--cloud", metavar="NAME", shell_complete=complete_cloud, help="The cloud in clouds.yaml. [default: OS_CLOUD, or OS_AUTH_URL …]"
)
@click.option("--device", type=_Address(), metavar="ADDRESS", help="The device's address. [default: the device that asks]")
@click.option(
    "--overlay", type=click.UUID, metavar="ID", help="Prefer a near site that holds the base or the launch image of this overlay."
)
@click.option("--local", is_flag=True, help="Search the local network by DNS-SD instead of asking a gateway.")
@click.option(
    "--ca",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    multiple=True,
    metavar="PEM",
    help="With --local: a certificate of the cloud's authority, which signs those of sites; repeatable.",
)
@click.option(
    "--fingerprint", multiple=True, metavar="HEX", help="With --local: the SHA-256 of a gateway's certificate that you trust; repeatable."
)
@click.option("--network", default="", metavar="NAME", help="With --local: the interface, or a network such as 10.1.0.0/16. [default: all]")
@click.option(
    "--seconds",
    type=click.FloatRange(0.5, 60),
    default=3.0,
    show_default=True,
    metavar="S",
    help="With --local: how long to search.",
)
@json_option
def command(
    cloud: str | None, device: IPv4Address | IPv6Address | None, overlay: UUID | None, *, local: bool, as_json: bool, **search: Any
) -> None:
    """Print the site that is nearest to a device and has room for another server.

    The command asks the gateway that the credentials name (CAMARA Simple Edge Discovery). Only users with a role that the operator names
    may ask about another device; they must give --device.

    With --local, the command lists the sites whose gateways are announced on the local network. Anybody there can announce anything, so
    only gateways that prove by their certificate that they belong to the cloud are listed. The others are named with their fingerprints:
    compare a fingerprint with the operator's before you give it to --fingerprint.
    """
    if local:
        if cloud or device or overlay:
            raise click.UsageError("--local asks no gateway: expected it without --cloud, --device and --overlay")
        _find_locally(as_json=as_json, **search)
        return
    if search["ca"] or search["fingerprint"] or search["network"]:
        raise click.UsageError("--ca, --fingerprint and --network are for --local")
    from atoll.cloudlet.find import find

    zone = find(cloud, device, str(overlay) if overlay else None)
    if as_json:
        print_json(zone.data())
    else:
        click.echo(plain(f"{zone.name}  {zone.region}  {zone.url}"))


def _find_locally(*, as_json: bool, ca: tuple[Path, ...], fingerprint: tuple[str, ...], network: str, seconds: float) -> None:
    """Print the sites on the local network."""
    from atoll.cloudlet.local import LocalSearch
    from atoll.errors import AtollError

    found = LocalSearch(ca, fingerprint).find(network, seconds)
    if as_json:
        print_json(found.data())
    else:
        for site in found.sites:
            click.echo(plain(f"{site.site}  {site.region}  {site.url}"))
        for each in found.strangers:
            mark = f", sha256 {each.fingerprint}" if each.fingerprint else ""
            click.echo(plain(f"note: not trusted: {each.name} at {each.address or '?'}:{each.port}{mark}: {each.reason}"), err=True)
    if not found.sites:
        count = len(found.strangers)
        seen = f"{count} {'announcement is' if count == 1 else 'announcements are'} not trusted" if count else "no gateway is announced"
        hint = "give --ca with the cloud's ca.pem, or --fingerprint" if count else "the operator switches it on by `discovery: announce:`"
        raise AtollError("discovery.nobody", f"no site was found on the local network: {seen}", hint)

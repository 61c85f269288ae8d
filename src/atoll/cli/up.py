"""`atoll up`: brings the cloud up."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from atoll.cli.session import Session
from atoll.cli.verb import verb

if TYPE_CHECKING:
    from atoll.cloud import Cloud
    from atoll.site.up import Outcome

_NETWORKS = {"ovn": "OVN's", "ovs": "ML2/OVS's"}


@verb("up", "atoll up\natoll up my-cloud.yaml\natoll up my-cloud.yaml --provider enoslib:hosts.yaml")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--provider", metavar="enoslib:FILE", help="Put each site on a host that EnOSlib reserves; FILE describes the hosts in YAML.")
@click.pass_obj
def command(session: Session, file: Path | None, provider: str | None) -> None:
    """Bring the cloud up, and wait until it answers.

    FILE describes the cloud in YAML. Without FILE, the cloud comes up as it was last described; the first time, it has one
    site named `local`. Running services that FILE does not change keep running; sites that FILE adds are started.

    Servers are real guests in QEMU, on OVN's networks, if both are installed and the user is root. With `compute: fake`, the servers of a
    site are records of Nova's fake driver, of which one machine holds thousands.

    With --provider, each site runs on a host of its own, and EnOSlib constrains the links of the topology. Later commands on the same
    state directory need no --provider. If a step fails, run the same command again: it continues with this step.
    """
    from atoll.cli import testbeds

    if provider is not None or testbeds.is_there(session):
        testbeds.up(session, file, provider)
        return
    from atoll.cli.progress import Progress
    from atoll.site.up import up

    begun = time.monotonic()
    with Progress("bringing the cloud up") as progress:
        outcome = up(session.state, session.cache, file.absolute() if file else None, progress.event)
    for line in _news(outcome.cloud, outcome.started, time.monotonic() - begun):
        click.echo(line)
    click.echo()
    for line in _next_steps(session.program, outcome.cloud):
        click.echo(line)
    for line in _about_servers(outcome):
        click.echo(line)


def _news(cloud: Cloud, started: tuple[str, ...], seconds: float) -> list[str]:
    if not started:
        names = ", ".join(cloud.site_names)
        return [f"already up, nothing to do: {names}"]
    changed = {name.partition("/")[0] for name in started}
    width = max(len(name) for name in cloud.site_names)
    lines = []
    for each in cloud.sites:
        already = "" if each.name in changed else "  (was up already)"
        what = f"compute site of {each.control}" if each.control else each.url
        lines.append(f"{each.name:{width}}  {what}{already}")
    return [f"up in {seconds:.1f} s:", *lines]


def _next_steps(program: str, cloud: Cloud) -> list[str]:
    name = cloud.full_sites[0].name
    steps = {f"{program} status": "the processes, their memory and uptime"}
    if cloud.topology is not None:
        steps[f"{program} wan show"] = "the links between the sites, as they are now"
    steps[f"{program} openstack server list"] = f"the unmodified client, as administrator of {name}"
    if cloud.topology is not None:
        steps[f"{program} shell {name}"] = "a shell inside a site, in which any other client works"
    else:
        steps[f'eval "$({program} env {name})"'] = "the same for any other client, in this shell"
    width = max(map(len, steps))
    return [f"  {text:{width}}  # {why}" for text, why in steps.items()]


def _about_servers(outcome: Outcome) -> list[str]:
    """Return lines that name the sites whose servers are virtual machines, and the reason why those of other sites are simulated."""
    sites = outcome.cloud.sites
    fake = [site.name for site in sites if not site.runs_guests]
    lines = []
    if outcome.machine is not None:
        how = "with KVM" if outcome.machine.hypervisor == "kvm" else "without KVM (TCG)"
        path = "the kernel" if outcome.machine.datapath == "system" else "user space"
        whose = " and ".join(_NETWORKS[name] for name in sorted({site.data_plane for site in sites if site.runs_guests}))
        lines.append(f"Servers are guests of QEMU {how}, on {whose} networks, which Open vSwitch carries in {path}.")
    if fake:
        where = "" if len(fake) == len(sites) else f" at {', '.join(fake)}"
        why = f" ({outcome.obstacle})" if outcome.obstacle else ""
        lines.append(f"Servers{where} are records of Nova's fake driver: they become ACTIVE, but no guest runs{why}.")
    return lines

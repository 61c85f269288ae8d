"""The start of a site on its host: the first site founds the cloud, and the others join it with tokens, like sites on other machines."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from atoll.cloud import Cloud
from atoll.cloud.document import dump_cloud, make_cloud, to_data
from atoll.errors import AtollError
from atoll.site.clients import DEFAULT_ENTRY
from atoll.testbed.record import HostsRecord, Placed

AGREED_S = 90.0
"""Seconds after the last join within which all sites must see one another."""

_JOIN = "umask 077; read -r it; printf '%s' \"$it\" >{file}; trap 'rm -f {file}' EXIT; {join} --admin-password-file {file}"
"""The script of a join. The first line of its standard input is the administrator's password, and the rest the token."""


def own_cloud(cloud: Cloud, name: str, address: str) -> Cloud:
    """Return the cloud of one host: a single site with the settings of the whole cloud, without the topology, because the links are real.

    Args:
        cloud: the whole cloud.
        name: the name of the site.
        address: the IPv4 address of the site.

    Raises:
        AtollError: `cloud.invalid`: a setting of the cloud needs other sites in the same file.
    """
    data = to_data(cloud)
    data.pop("topology", None)
    data["sites"] = [{**site, "host": address} for site in data["sites"] if site["name"] == name]
    if cloud.topology is not None:  # sites of a topology have no ports of their own
        for site in data["sites"]:
            site.pop("port", None)
    return make_cloud(data, {})


def atoll(placed: Placed, *words: str, fake: bool = False) -> str:
    """Return the shell command that calls Atoll on a host, with the site's state directory.

    Args:
        placed: the site on its host.
        words: the verb and its arguments.
        fake: whether new sites use Nova's fake driver by default.
    """
    choice = "ATOLL_COMPUTE=fake " if fake else ""
    return choice + shlex.join([placed.program, "--state", placed.state, *words])


def bring_up(record: HostsRecord, name: str) -> None:
    """Found the cloud with a site, or have the site join it, and apply the site's settings; if the site is a member, only do the latter.

    Args:
        record: the record of the cloud.
        name: the name of the site, whose host has an Atoll.

    Raises:
        AtollError: `testbed.unreachable`; `testbed.failed`: a command failed on a host; `cloud.invalid`.
    """
    placed, founder = record.placed[name], record.founder
    own = own_cloud(record.cloud, name, placed.address)
    if founder is not None and not placed.member:
        _join(record, name, founder, own)
    file = f"{placed.directory}/cloud.yaml"
    script = f"umask 077; mkdir -p {placed.directory} && cat >{file} && {atoll(placed, 'up', file)}"
    placed.host.run(script, text=dump_cloud(own))
    record.change(name, member=True, token="")


def _join(record: HostsRecord, name: str, founder: Placed, own: Cloud) -> None:
    """Have a site join with a new token, or with that of an attempt that was interrupted."""
    placed = record.placed[name]
    if not placed.token or not _begun(placed):
        token = founder.host.run(atoll(founder, "site", "invite", name)).stdout.strip()
        placed = record.change(name, token=token)
    password = founder.host.run(atoll(founder, "exec", founder.host.site, "--", "printenv", "OS_PASSWORD")).stdout.strip()
    site = own.sites[0]
    words = ("site", "join", "-", "--host", site.host, "--port", str(site.port))
    join = atoll(placed, *words, fake=site.compute == "fake")
    script = f"mkdir -p {placed.directory}; " + _JOIN.format(file=f"{placed.directory}/password", join=join)
    placed.host.run(script, text=f"{password}\n{placed.token}\n")


def _begun(placed: Placed) -> bool:
    """Return whether a join has begun on the host, so that only the same token can complete it."""
    return placed.host.run(f"test -e {placed.state}/joining.json", check=False).returncode == 0


def await_agreement(record: HostsRecord, within_s: float = AGREED_S) -> None:
    """Wait until each site sees all others.

    Args:
        record: the record of the cloud.
        within_s: seconds to wait.

    Raises:
        AtollError: `testbed.failed`: a site does not see another in time.
    """
    names = list(record.placed)
    deadline = time.monotonic() + within_s
    for name, placed in record.placed.items():
        while missing := _missing(placed, names):
            if time.monotonic() > deadline:
                text = f"{name} does not reach {', '.join(missing)} after {within_s:.0f} s"
                raise AtollError("testbed.failed", text, "check that the hosts reach one another at the ports of docs/reference/ports.md")
            time.sleep(1)


def _missing(placed: Placed, names: Sequence[str]) -> list[str]:
    found: Mapping[str, Any] = json.loads(placed.host.run(atoll(placed, "mesh", "--json")).stdout)
    alive = {member["name"] for member in found["members"] if member["state"] == "alive"} | {found["site"]}
    return [name for name in names if name not in alive]


def clouds_yaml(record: HostsRecord) -> str:
    """Return a `clouds.yaml` with the entries of all sites, read from their hosts; `default` is the first site's."""
    entries: dict[str, Any] = {}
    for name, placed in record.placed.items():
        found = yaml.safe_load(placed.host.run(f"cat {placed.state}/clouds.yaml").stdout)
        entries[name] = found["clouds"][name]
    if entries:
        entries[DEFAULT_ENTRY] = next(iter(entries.values()))
    return "# Written by `atoll up`; changes are lost.\n" + yaml.safe_dump({"clouds": entries}, sort_keys=False)

"""The choice of a reserved host for each site, by the roles of the hosts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from atoll.errors import AtollError
from atoll.testbed.document import ANY_ROLE


def assign(
    names: Sequence[str], hosts: Sequence[Mapping[str, Any]], roles: Mapping[str, str], kept: Mapping[str, str]
) -> dict[str, Mapping[str, Any]]:
    """Return the host of each site.

    Args:
        names: the names of the sites, in the order of the cloud.
        hosts: the reserved hosts, as `Provider.reserve` returns them.
        roles: the role of the host that a site uses, by the site's name; see `ProviderDocument`.
        kept: the SSH address of the host of each site that has a host already.

    Raises:
        AtollError: `testbed.failed`: too few hosts have the role of a site, or the reservation no longer has the host of a site.
    """
    by_address = {str(host["address"]): host for host in hosts}
    chosen: dict[str, Mapping[str, Any]] = {}
    for name, address in kept.items():
        if address not in by_address:
            text = f"the reservation no longer has {address}, the host of {name}, so the site's data are lost"
            raise AtollError("testbed.failed", text, "`atoll destroy`, and bring the cloud up again")
        chosen[name] = by_address[address]
    for name in names:
        if name not in chosen:
            chosen[name] = _free(name, hosts, roles, [str(host["address"]) for host in chosen.values()])
    return {name: chosen[name] for name in names}


def _free(name: str, hosts: Sequence[Mapping[str, Any]], roles: Mapping[str, str], used: Sequence[str]) -> Mapping[str, Any]:
    own = any(name in host["roles"] for host in hosts)
    role = roles.get(name) or (name if own else ANY_ROLE)
    having = [host for host in hosts if role in host["roles"]]
    free = [host for host in having if host["address"] not in used]
    if not free:
        text = f"no host is left for {name}: {len(having)} reserved hosts have the role {role}, and other sites are on them"
        if not having:
            known = ", ".join(sorted({role for host in hosts for role in host["roles"]}))
            text = f"no host for {name}: no reserved host has the role {role}: expected one of {known}"
        raise AtollError("testbed.failed", text, "add a host to the provider's configuration, or a role to `roles`")
    return free[0]

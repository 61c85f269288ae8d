"""The program that runs in EnOSlib's environment and calls EnOSlib, with a JSON request on standard input and an answer on standard output.

It imports nothing of Atoll, because that environment has no Atoll. EnOSlib's own output goes to standard error.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

PROVIDERS = {
    "static": ("enos_static", "Static"),
    "g5k": ("enos_g5k", "G5k"),
    "vagrant": ("enos_vagrant", "Enos_vagrant"),
    "chameleonkvm": ("enos_chameleonkvm", "Chameleonkvm"),
    "chameleonbaremetal": ("enos_chameleonbaremetal", "Chameleonbaremetal"),
}
"""The package and the class of each provider."""

_AS_ROOT = {"ansible_become": True}


class Refused(Exception):
    """The request can't be carried out, for a reason that the user can remove."""


def _configuration(request: Mapping[str, Any]) -> Any:
    package, _name = PROVIDERS[request["provider"]]
    # Only the module of the configuration: that of the provider may need packages that are not installed.
    return import_module(f"enoslib.infra.{package}.configuration").Configuration.from_dictionary(request["configuration"])


def _provider(request: Mapping[str, Any]) -> Any:
    package, name = PROVIDERS[request["provider"]]
    return getattr(import_module(f"enoslib.infra.{package}.provider"), name)(_configuration(request))


def _reserved(request: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the roles and networks of the reservation; a provider reserves only what it has not reserved yet."""
    roles, networks = _provider(request).init()
    if not roles:
        raise Refused("the provider reserved no host")
    return roles, networks


def _synchronised(request: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """Return the chosen hosts by their SSH addresses, with their network interfaces, and the networks."""
    from enoslib.api import sync_info

    roles, networks = _reserved(request)
    wanted: dict[str, str] = request["hosts"]
    hosts = {host.address: host for members in roles.values() for host in members if host.address in wanted}
    if missing := sorted(set(wanted) - set(hosts)):
        raise Refused(f"the reservation no longer has {', '.join(missing)}")
    for address, host in hosts.items():  # Ansible's own search takes the first that exists, even one that does not work
        host.set_extra(ansible_python_interpreter=wanted[address])
    found = sync_info(list(hosts.values()), networks)
    return {host.address: host for host in found}, networks


def _validate(request: Mapping[str, Any]) -> dict[str, Any]:
    _configuration(request).finalize()
    return {}


def _reserve(request: Mapping[str, Any]) -> dict[str, Any]:
    """Reserve the hosts; answer with how to reach each over SSH, and its roles."""
    from enoslib.enos_inventory import EnosInventory

    roles, _networks = _reserved(request)
    inventory = EnosInventory(roles=roles)
    hosts: dict[str, dict[str, Any]] = {}
    for role, members in roles.items():
        for host in members:
            arguments = str(inventory.get_host(host.alias).get_vars().get("ansible_ssh_common_args", ""))
            entry = {"address": host.address, "user": host.user, "keyfile": host.keyfile, "port": host.port, "roles": []}
            entry["options"] = shlex.split(arguments)
            hosts.setdefault(host.address, entry)["roles"].append(str(role))
    return {"hosts": list(hosts.values())}


def _addresses(request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer with the IPv4 address of each host on the network of the sites."""
    hosts, networks = _synchronised(request)
    role = request["network"]
    if role is not None and role not in networks:
        raise Refused(f"no network has the role {role}: expected one of {', '.join(sorted(networks)) or 'none'}")
    chosen = None if role is None else networks[role]
    found = {}
    for address, host in hosts.items():
        known = [str(each.ip.ip) for each in host.filter_addresses(networks=chosen) if each.ip is not None and each.ip.version == 4]
        if not known:
            raise Refused(f"{address} has no IPv4 address on {f'the network {role}' if role else 'a network of the configuration'}")
        found[address] = known[0]
    return {"addresses": found}


def _constrain(request: Mapping[str, Any]) -> dict[str, Any]:
    """Apply the constraints, and answer with the number of netem's queues that each host then must have."""
    from enoslib import NetemHTB

    hosts, networks = _synchronised(request)
    chosen = None if request["network"] is None else networks[request["network"]]
    netem = NetemHTB()
    for each in request["constraints"]:
        ends = [hosts[each["from"]]], [hosts[each["to"]]]
        netem.add_constraints(*ends, delay=each["delay"], rate=each["rate"], loss=each["loss"], networks=chosen)
    netem.deploy(extra_vars=_AS_ROOT)
    return {"queues": {host.address: len(source.constraints) for host, source in netem.sources.items()}}


def _relax(request: Mapping[str, Any]) -> dict[str, Any]:
    """Remove all constraints from the hosts."""
    from enoslib import NetemHTB

    hosts, _networks = _synchronised(request)
    netem = NetemHTB()
    netem.add_constraints(list(hosts.values()), list(hosts.values()), delay="0ms", rate="10gbit")
    netem.destroy(extra_vars=_AS_ROOT)
    return {}


def _release(request: Mapping[str, Any]) -> dict[str, Any]:
    _provider(request).destroy()
    return {}


VERBS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "validate": _validate,
    "reserve": _reserve,
    "addresses": _addresses,
    "constrain": _constrain,
    "relax": _relax,
    "release": _release,
}


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer to a request: the verb's own, or `{"error": …}`.

    An error has a `kind` (`configuration`, `refused`, `packages` or `failed`), a `text`, and for `configuration` the `path` of the item.
    """
    try:
        from enoslib.config import set_config

        set_config(ansible_stdout="noop")
        return VERBS[request["verb"]](request)
    except Refused as error:
        return {"error": {"kind": "refused", "text": str(error)}}
    except ModuleNotFoundError as error:
        return {"error": {"kind": "packages", "text": str(error.name)}}
    except Exception as error:  # EnOSlib's clients of testbeds raise errors of many libraries
        if hasattr(error, "absolute_path") and hasattr(error, "message"):  # jsonschema's ValidationError
            return {"error": {"kind": "configuration", "text": str(error.message), "path": list(error.absolute_path)}}
        return {"error": {"kind": "failed", "text": _reason(error)}}


def _reason(error: Exception) -> str:
    """Return the reason of an error in one line; for an error of Ansible, the reason at the first host."""
    record = next(iter(getattr(error, "hosts", ())), None)
    if record is None:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
    payload = record.payload if isinstance(record.payload, dict) else {}
    said = next((str(payload[key]) for key in ("stderr", "stdout", "msg") if payload.get(key)), str(record.status))
    return f"{record.host}: {record.task}: {' '.join(said.split())[:300]}"


def main() -> None:
    """Answer the request on standard input."""
    output = os.dup(1)
    os.dup2(2, 1)
    request = json.load(sys.stdin)
    found = json.dumps(answer(request))
    with os.fdopen(output, "w", encoding="utf-8") as file:
        file.write(found)


if __name__ == "__main__":
    main()

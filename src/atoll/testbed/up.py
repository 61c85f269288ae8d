"""The start of a cloud on a testbed: reserve, check, constrain, install, found, join. Each step is idempotent and recorded."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from atoll.cloud import Cloud, read_cloud
from atoll.errors import AtollError
from atoll.files import write_private
from atoll.site.sites import applied_cloud
from atoll.site.state import State, locked, translated
from atoll.testbed import constraints, installation, membership
from atoll.testbed.document import ProviderDocument, read_provider
from atoll.testbed.host import RemoteHost
from atoll.testbed.placing import assign
from atoll.testbed.provider import Provider
from atoll.testbed.record import KNOWN_HOSTS, PROVIDER_FILE, WORK, HostsRecord, Placed, load

AT_ONCE = 8
"""Greatest number of hosts that are checked or installed at the same time."""

Say = Callable[[str], None]

_Item = TypeVar("_Item")
_Found = TypeVar("_Found")


def up(state: State, cache: Path, file: Path | None, provider_file: Path | None, say: Say) -> HostsRecord:
    """Bring a cloud up on the hosts of a provider, or continue where an earlier attempt failed.

    Args:
        state: the state directory on this machine.
        cache: the user's cache directory.
        file: the cloud's YAML; `None` means the cloud as last applied.
        provider_file: the provider's file; `None` means the one as last applied.
        say: called with lines about the progress.

    Raises:
        AtollError: `cloud.*`, `testbed.invalid`, `testbed.not_found`: a file is not valid, and nothing was changed; `testbed.*`: a step
            failed, and the same command continues with it.
    """
    state.check()
    record = load(state)
    source = (provider_file or state.root / PROVIDER_FILE).absolute()
    document = read_provider(source)
    cloud = _wanted(state, record, file)
    with tempfile.TemporaryDirectory() as scratch:
        Provider(source, document, Path(scratch), cache, say).validate()
    with locked(state, "up"), translated(state.root):
        state.stamp()
        known = document.known_hosts and str(source.parent / Path(document.known_hosts).expanduser())
        if record is None:
            record = HostsRecord(state, cloud)
        record.cloud, record.known_hosts = cloud, known if provider_file and known else record.known_hosts
        write_private(state.root / PROVIDER_FILE, source.read_text(encoding="utf-8"))
        record.save()
        _converge(record, Provider(source, document, state.root / WORK, cache, say), say)
    return record


def _wanted(state: State, record: HostsRecord | None, file: Path | None) -> Cloud:
    """Return the cloud to bring up.

    Raises:
        AtollError: `cloud.invalid`: the file describes a cloud that can't be on a testbed, or leaves out a site that exists.
    """
    if record is None and applied_cloud(state) is not None:
        message = f"there is a cloud on this machine in {state.root} already: a cloud on a testbed needs a state directory of its own"
        raise AtollError("cloud.invalid", message, "use another directory with --state DIR")
    cloud = read_cloud(file) if file else record.cloud if record else Cloud.default()
    vanished = [name for name in (record.placed if record else ()) if name not in cloud.site_names]
    if vanished:
        message = f"{file}: leaves out {', '.join(vanished)}: expected every site that exists"
        raise AtollError("cloud.invalid", message, f"put it back, or run `atoll destroy {' '.join(vanished)}` first")
    check_cloud(cloud)
    return cloud


def check_cloud(cloud: Cloud) -> None:
    """Check that a cloud can be on a testbed.

    Raises:
        AtollError: `cloud.invalid`: it has a compute site, or a setting that needs all sites in one file; `testbed.invalid`: a link has a
            property that EnOSlib's netem service lacks.
    """
    for site in cloud.sites:
        if site.control is not None:
            message = f"{site.name} is a compute site: expected full sites, because each host has a state directory of its own"
            raise AtollError("cloud.invalid", message, "leave it out, or run the cloud on one machine, without --provider")
        membership.own_cloud(cloud, site.name, "192.0.2.1")
    constraints.between(cloud, {name: name for name in cloud.site_names})


def _converge(record: HostsRecord, provider: Provider, say: Say) -> None:
    say(f"reserving hosts with EnOSlib's provider {provider.document.provider}")
    _place(record, provider.document, provider.reserve())
    names = list(record.placed)
    _check_hosts(record)
    say("reading the hosts' networks")
    found = provider.addresses(record.pythons)
    for name, each in list(record.placed.items()):
        record.change(name, address=found[each.host.address])
    _constrain(record, provider, say)
    _install(record, provider.document, say)
    for name in names:
        say(f"{name}: {'bringing up' if record.placed[name].member else 'joining' if record.founder else 'founding the cloud'}")
        membership.bring_up(record, name)
    say("waiting until the sites see one another")
    membership.await_agreement(record)
    write_private(record.state.clouds_file, membership.clouds_yaml(record))


def _constrain(record: HostsRecord, provider: Provider, say: Say) -> None:
    """Constrain the links as the topology describes, or remove earlier constraints if the cloud no longer has a topology."""
    addresses = {name: each.host.address for name, each in record.placed.items()}
    wanted = constraints.between(record.cloud, addresses)
    if wanted:
        say("constraining the links with EnOSlib's netem service")
        record.constrained = True  # before, because an attempt that fails leaves constraints
        record.save()
        _check_queues(record, wanted, provider.constrain(record.pythons, wanted))
    elif record.constrained:
        say("removing the constraints of the links")
        provider.relax(record.pythons)
        record.constrained = False
        record.save()


def _place(record: HostsRecord, document: ProviderDocument, hosts: list[dict[str, Any]]) -> None:
    kept = {name: each.host.address for name, each in record.placed.items()}
    known = record.known_hosts or str(record.state.root / KNOWN_HOSTS)
    placed: dict[str, Placed] = {}
    for name, found in assign(record.cloud.site_names, hosts, document.roles, kept).items():
        ways = {key: found[key] for key in ("address", "user", "port", "keyfile", "options")}
        host = RemoteHost(name, known_hosts=known, strict=bool(record.known_hosts), **ways)
        before = record.placed.get(name)
        directory = document.directory.replace("{site}", name)
        placed[name] = replace(before, host=host) if before else Placed(host, directory=directory)
    record.placed = placed
    record.save()


def _check_hosts(record: HostsRecord) -> None:
    names = list(record.placed)
    constrained = bool(constraints.between(record.cloud, dict.fromkeys(names, "")))
    found = _each(lambda name: installation.inspect(record.placed[name].host, constrained=constrained), names)
    for name, (host, python) in zip(names, found, strict=True):
        record.change(name, host=host, python=python)


def _check_queues(record: HostsRecord, wanted: Sequence[Mapping[str, Any]], expected: Mapping[str, int]) -> None:
    """Check that the kernels of the hosts have the netem queues, because EnOSlib does not report every failed command.

    Args:
        record: the record of the cloud.
        wanted: the constraints.
        expected: the number of queues that EnOSlib has asked each host for, by its SSH address.

    Raises:
        AtollError: `testbed.unsuitable`: a host has fewer.
    """
    for placed in record.placed.values():
        address = placed.host.address
        needed = max(sum(each["from"] == address for each in wanted), expected.get(address, 0))
        found = sum(line.startswith("qdisc netem") for line in placed.host.run("tc qdisc show").stdout.splitlines()) if needed else 0
        if found < needed:
            text = f"{placed.host.label} has {found} of netem's queues instead of {needed}"
            hint = "its kernel needs CONFIG_NET_SCH_NETEM; or leave out `topology`, and use the links as they are"
            raise AtollError("testbed.unsuitable", text, hint)


def _install(record: HostsRecord, document: ProviderDocument, say: Say) -> None:
    names = list(record.placed)
    given = document.atoll
    if given is not None:
        _each(lambda name: installation.check_installed(record.placed[name].host, given), names)
        programs = [given] * len(names)
    else:
        packed = installation.pack()
        say("installing Atoll on the hosts, which takes minutes the first time")
        programs = _each(lambda name: installation.install(record.placed[name], packed), names)
    for name, program in zip(names, programs, strict=True):
        record.change(name, program=program)


def _each(work: Callable[[_Item], _Found], items: Iterable[_Item]) -> list[_Found]:
    """Call a function for several items at the same time, and return the results in the items' order; raise the first error."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(work, items))

"""The emulated WAN of a cloud with a topology: starts, changes and ends it with the cloud."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NoReturn

from atoll.cloud import Cloud
from atoll.cloud.network import Network
from atoll.control.messages import encode, error_from_json, error_to_json
from atoll.errors import AtollError
from atoll.namespaces import Namespace
from atoll.runtime.client import SupervisorClient
from atoll.site.state import State
from atoll.wan.client import LOCK, LOG, SOCKET, Wan, WanOptions

FILES = (SOCKET, LOG, LOCK)
"""The names of a WAN's files in the state directory."""


DARK = "dark"
"""The file in a site's directory that marks its links as cut because the site was killed."""


def ensure(state: State, cloud: Cloud, control: SupervisorClient | None) -> dict[str, Namespace]:
    """Start the WAN of a cloud, or apply the cloud's topology to the running WAN.

    This fails on a machine that can't run a WAN. It therefore comes before all other changes, and leaves nothing behind if it fails.

    Args:
        state: the state directory, which exists.
        cloud: the model.
        control: the supervisor, with which the WAN ends; `None` means that the WAN ends with this process, unless `tie` is called later.

    Returns:
        The network of each site; none for a cloud without a topology.

    Raises:
        AtollError: `wan.*`.
    """
    network = cloud.network
    if network is None:
        close(state)
        return {}
    keeper = int(control.ping()["pid"]) if control else os.getpid()
    wan = Wan.connect(state.root)
    if wan is not None and wan.describe()["tied_to"] != keeper:
        wan.close()  # the WAN's supervisor was killed, so the WAN would soon end by itself
        wan = None
    if wan is None:
        assert cloud.topology is not None
        close(state)  # a WAN that is about to end
        wan = _start(state, network, WanOptions(rerouting=cloud.topology.rerouting, tied_to=keeper))
    else:
        wan.apply(network)
    return {name: wan.namespace(name) for name in cloud.site_names}


def _start(state: State, network: Network, options: WanOptions) -> Wan:
    there = {name for name in FILES if (state.root / name).exists()}
    try:
        return Wan.start(state.root, network, options)
    except AtollError as error:
        if error.kind.code != "wan.failed":  # its message may name the log, which must stay then
            for name in FILES:
                if name not in there:
                    (state.root / name).unlink(missing_ok=True)
        raise


def tie(state: State, cloud: Cloud, control: SupervisorClient) -> None:
    """Tie the WAN of a cloud with a topology to the supervisor, with which it then ends.

    Raises:
        AtollError: `wan.*`.
    """
    if cloud.network is not None:
        Wan(state.root).tie(int(control.ping()["pid"]))


def running(state: State) -> dict[str, Namespace]:
    """Return the network namespaces of the sites of a running WAN, by the site's name; empty if no WAN runs."""
    wan = Wan.connect(state.root) if state.root.exists() else None
    return {} if wan is None else {name: wan.namespace(name) for name in wan.addresses}


def enter(state: State, cloud: Cloud | None, site: str) -> None:
    """Move this process into the network of a site, for good; do nothing for a cloud without a topology.

    Raises:
        AtollError: `wan.*`: the WAN does not run, or this user may not enter the network.
    """
    if cloud is None or cloud.topology is None:
        return
    namespace = Wan(state.root).namespace(site)
    try:
        namespace.enter()
    except OSError as error:
        # A process in a user namespace, as in `atoll shell`, can't enter another network, but may be in the right one already.
        if not _is_here(next(each.host for each in cloud.sites if each.name == site)):
            hint = f"leave the site that you are in first, and run `atoll shell {site}`"
            raise AtollError("wan.failed", f"the network of {site} can't be entered: {error}", hint) from error


def _is_here(address: str) -> bool:
    """Return whether this process is in the network of the site that has `address`: the address exists only there."""
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def inside(namespace: Namespace | None, work: Callable[[], None]) -> None:
    """Run a function in the network of a site, in a child process; if the cloud has no network, in this process.

    Raises:
        AtollError: the error of `work`; `wan.failed`: the child process ended in another way.
    """
    if namespace is None:
        work()
        return
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _work_there(namespace, work, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    _pid, status = os.waitpid(child, 0)
    if told:
        raise error_from_json(json.loads(told))
    if status:
        raise AtollError("wan.failed", "an operation in the network of a site failed")


def _work_there(namespace: Namespace, work: Callable[[], None], writing: int) -> NoReturn:
    code = 1
    try:
        namespace.enter()
        work()
        code = 0
    except AtollError as error:
        os.write(writing, encode(error_to_json(error)))
    finally:
        os._exit(code)


def follow(state: State, cloud: Cloud) -> None:
    """Apply the topology of a cloud to its WAN, if the WAN runs."""
    wan = Wan.connect(state.root)
    if wan is not None and cloud.network is not None:
        wan.apply(cloud.network)


def power_off(state: State, names: Iterable[str]) -> None:
    """Cut the links of sites before their processes are killed, so that these send nothing more, as in a power cut.

    The links stay cut until `power_on`, which does not heal links that were cut before.
    """
    wan = Wan.connect(state.root)
    if wan is None:
        return
    found = wan.describe()
    for name in names:
        if name in found["addresses"] and name not in found["cuts"]:
            wan.cut(name)
            (state.site(name) / DARK).touch()


def power_on(state: State, names: Iterable[str]) -> None:
    """Heal the links that `power_off` has cut."""
    for name in names:
        mark = state.site(name) / DARK
        if mark.exists():
            mark.unlink()
            if (wan := Wan.connect(state.root)) is not None:
                wan.heal(name)


def close(state: State) -> None:
    """End the WAN, if one runs."""
    Wan(state.root).close()


def forget(state: State) -> None:
    """Remove the files of a WAN."""
    for name in FILES:
        with suppress(FileNotFoundError):
            (state.root / name).unlink()

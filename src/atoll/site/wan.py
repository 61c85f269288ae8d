"""The network between a cloud's sites, if it has a topology: started with the cloud, kept in step with it, ended with it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NoReturn

from atoll import wire
from atoll.cloud import Cloud
from atoll.cloud.network import Network
from atoll.errors import AtollError
from atoll.namespaces import Namespace
from atoll.runtime.control import Control
from atoll.site.state import State
from atoll.wan.client import LOCK, LOG, SOCKET, Options, Wan

FILES = (SOCKET, LOG, LOCK)
"""What a WAN leaves in the state directory."""


DARK = "dark"
"""The file in a site's directory that says that its links are cut because it was killed."""


def ensure(state: State, cloud: Cloud, control: Control | None) -> dict[str, Namespace]:
    """Start the WAN of a cloud, or have the one that runs take its topology over.

    A machine that can't have it is found out here. So this comes before anything else of the cloud is made, and leaves nothing if it fails.

    Args:
        state: where the cloud is kept; the directory exists.
        cloud: the model.
        control: of the supervisor, with which the WAN ends; None if there is none yet: the WAN ends with this process, unless it is `tie`d.

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
        wan.close()  # of a supervisor that was killed; it would end by itself in a moment
        wan = None
    if wan is None:
        assert cloud.topology is not None
        close(state)  # one that is about to end
        wan = _start(state, network, Options(rerouting=cloud.topology.rerouting, tied_to=keeper))
    else:
        wan.apply(network)
    return {name: wan.namespace(name) for name in cloud.site_names}


def _start(state: State, network: Network, options: Options) -> Wan:
    there = {name for name in FILES if (state.root / name).exists()}
    try:
        return Wan.start(state.root, network, options)
    except AtollError as error:
        if error.kind.code != "wan.failed":  # that one may name the log
            for name in FILES:
                if name not in there:
                    (state.root / name).unlink(missing_ok=True)
        raise


def tie(state: State, cloud: Cloud, control: Control) -> None:
    """Have the WAN of a cloud, if it has one, end with the supervisor.

    Raises:
        AtollError: `wan.*`.
    """
    if cloud.network is not None:
        Wan(state.root).tie(int(control.ping()["pid"]))


def running(state: State) -> dict[str, Namespace]:
    """The networks of the sites of a WAN that runs; none if there is none."""
    wan = Wan.connect(state.root) if state.root.exists() else None
    return {} if wan is None else {name: wan.namespace(name) for name in wan.addresses}


def enter(state: State, cloud: Cloud | None, site: str) -> None:
    """Move this process into the network of a site, for good; nothing to do for a cloud without a topology.

    Raises:
        AtollError: `wan.*`: its WAN does not run, or does not let this user in.
    """
    if cloud is None or cloud.topology is None:
        return
    namespace = Wan(state.root).namespace(site)
    try:
        namespace.enter()
    except OSError as error:
        # Who is in a user namespace already, in `atoll shell`, can't enter another network, but need not enter this one.
        if not _is_here(next(each.host for each in cloud.sites if each.name == site)):
            hint = f"leave the site that you are in first, and run `atoll shell {site}`"
            raise AtollError("wan.failed", f"the network of {site} can't be entered: {error}", hint) from error


def _is_here(address: str) -> bool:
    """True if an address of a site, which exists nowhere else, is one of this process's own network."""
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def inside(namespace: Namespace | None, work: Callable[[], None]) -> None:
    """Do something in the network of a site, in a child process; here, without a network.

    Raises:
        AtollError: what `work` raised; `wan.failed`: it ended in another way.
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
        raise wire.error_from_json(json.loads(told))
    if status:
        raise AtollError("wan.failed", "what had to be done in the network of a site failed")


def _work_there(namespace: Namespace, work: Callable[[], None], writing: int) -> NoReturn:
    code = 1
    try:
        namespace.enter()
        work()
        code = 0
    except AtollError as error:
        os.write(writing, wire.encode(wire.error_to_json(error)))
    finally:
        os._exit(code)


def follow(state: State, cloud: Cloud) -> None:
    """Have the WAN, if it runs, take the topology of a cloud over."""
    wan = Wan.connect(state.root)
    if wan is not None and cloud.network is not None:
        wan.apply(cloud.network)


def power_off(state: State, names: Iterable[str]) -> None:
    """Cut sites off before their processes are killed: where the power fails, nothing says goodbye.

    Until `power_on` it stays so. What is cut already stays so after that too.
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
    """Undo `power_off`."""
    for name in names:
        mark = state.site(name) / DARK
        if mark.exists():
            mark.unlink()
            if (wan := Wan.connect(state.root)) is not None:
                wan.heal(name)


def close(state: State) -> None:
    """End the WAN, if there is one."""
    Wan(state.root).close()


def forget(state: State) -> None:
    """Remove what a WAN left."""
    for name in FILES:
        with suppress(FileNotFoundError):
            (state.root / name).unlink()

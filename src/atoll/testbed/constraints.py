"""The links of a topology, as constraints between hosts of EnOSlib's netem service.

That service constrains the delay, rate and loss from one host to another. It has no routers, so the links of a path become one constraint:
the sum of the delays, the lowest rate, and the combined loss. A pair of hosts without delay, rate and loss gets no constraint.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from typing import Any

from atoll.cloud import Cloud
from atoll.cloud.network import Network, Wire
from atoll.errors import AtollError

NO_RATE = "10gbit"
"""The rate of a link without a limit; the service always sets a rate, and this one is its default."""

_NONE = {"delay": "0ms", "rate": NO_RATE, "loss": None}


def between(cloud: Cloud, addresses: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the constraints of each direction of each pair of sites; none if the cloud has no topology.

    Args:
        cloud: the cloud.
        addresses: the SSH address of each site's host.

    Raises:
        AtollError: `testbed.invalid`: a link has a property that the service lacks.
    """
    network = cloud.network
    if network is None:
        return []
    for ends, wire in network.wires.items():
        _check(ends, wire)
    shapes = {ends: _constraint(network, *ends) for ends in permutations(network.sites, 2)}
    return [{"from": addresses[start], "to": addresses[end], **shape} for (start, end), shape in shapes.items() if shape != _NONE]


def _check(ends: tuple[str, str], wire: Wire) -> None:
    for name, value in (("jitter", wire.jitter_ms), ("reorder", wire.reorder)):
        if value:
            text = f"the link {':'.join(ends)} has `{name}`, which EnOSlib's netem service lacks: expected delay, rate and loss only"
            raise AtollError("testbed.invalid", text, "use an emulated WAN on one machine, without --provider, for such a link")


def _constraint(network: Network, start: str, end: str) -> dict[str, Any]:
    wires = [network.wires[step] for step in network.path(start, end) or ()]
    rates = [wire.rate_mbit for wire in wires if wire.rate_mbit is not None]
    passed = 1.0
    for wire in wires:
        passed *= 1 - wire.loss
    loss = (1 - passed) * 100
    return {
        "delay": f"{sum(wire.delay_ms for wire in wires):g}ms",
        "rate": f"{min(rates) * 1000:.0f}kbit" if rates else NO_RATE,
        "loss": f"{loss:.6g}%" if loss else None,
    }

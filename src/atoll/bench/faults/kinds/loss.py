"""A link that loses 30 % of all packets, both ways."""

from __future__ import annotations

from atoll.bench.faults.fault import Fault, FaultyCloud, Kind, Wait, a_link, the_link

LOST = 0.3


def _inject(cloud: FaultyCloud, fault: Fault, wait: Wait) -> None:
    name = ":".join(fault.target)
    cloud.wan.set(name, {"loss": LOST})
    try:
        wait(fault.lasts_s)
    finally:
        cloud.wan.set(name, {"loss": 0.0})


LOSS = Kind("loss", a_link, the_link, _inject)

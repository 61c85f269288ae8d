"""A link that loses all packets in one direction, and none in the other."""

from __future__ import annotations

from atoll.bench.faults.fault import Fault, FaultyCloud, Kind, Wait, a_link, the_link


def _inject(cloud: FaultyCloud, fault: Fault, wait: Wait) -> None:
    name = ":".join(fault.target)
    cloud.wan.set(name, {"loss": 1.0}, one_way=True)
    try:
        wait(fault.lasts_s)
    finally:
        cloud.wan.set(name, {"loss": 0.0}, one_way=True)


ONE_WAY = Kind("one_way", a_link, the_link, _inject)

"""A site or link that is cut: all packets are lost, without any error."""

from __future__ import annotations

from atoll.bench.faults.fault import Fault, FaultyCloud, Kind, Wait, a_link, a_site, the_link, the_links


def _inject(cloud: FaultyCloud, fault: Fault, wait: Wait) -> None:
    name = ":".join(fault.target)
    cloud.wan.cut(name)
    try:
        wait(fault.lasts_s)
    finally:
        cloud.wan.heal(name)


CUT_SITE = Kind("cut_site", a_site, the_links, _inject)
CUT_LINK = Kind("cut_link", a_link, the_link, _inject)

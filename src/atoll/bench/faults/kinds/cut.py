"""Sites and links that are cut: nothing comes through, and nobody is told."""

from __future__ import annotations

from atoll.bench.faults.fault import Fault, Kind, Stage, Wait, a_link, a_site, the_link, the_links


def _inject(stage: Stage, fault: Fault, wait: Wait) -> None:
    name = ":".join(fault.target)
    stage.wan.cut(name)
    try:
        wait(fault.lasts_s)
    finally:
        stage.wan.heal(name)


CUT_SITE = Kind("cut_site", a_site, the_links, _inject)
CUT_LINK = Kind("cut_link", a_link, the_link, _inject)

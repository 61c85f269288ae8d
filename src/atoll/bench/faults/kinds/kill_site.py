"""A power cut: all processes of a site are killed and its links are dead, until it is started again."""

from __future__ import annotations

from atoll.bench.faults.fault import Fault, FaultyCloud, Kind, Wait, a_site, the_links


def _claims(target: tuple[str, ...]) -> frozenset[str]:
    # Only one site is killed at a time, because its start takes most of a small machine's processor time.
    return the_links(target) | {f"processes of {target[0]}", "starts"}


def _inject(cloud: FaultyCloud, fault: Fault, wait: Wait) -> None:
    (site,) = fault.target
    cloud.atoll("site", "kill", site)
    try:
        wait(fault.lasts_s)
    finally:
        cloud.atoll("site", "start", site)


KILL_SITE = Kind("kill_site", a_site, _claims, _inject)

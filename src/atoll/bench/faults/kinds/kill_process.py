"""SIGKILL of one process of a site, a service or its gateway; the supervisor starts it again."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from random import Random

from atoll.bench.faults.fault import Fault, FaultyCloud, Kind, Wait
from atoll.runtime.client import connect
from atoll.services import SERVICES

_GATEWAY_SHARE = 0.4


def _draw(random: Random, sites: tuple[str, ...]) -> tuple[tuple[str, ...], float]:
    gateway = random.random() < _GATEWAY_SHARE
    return (random.choice(sites), "gateway" if gateway else random.choice([service.name for service in SERVICES])), 0.0


def _claims(target: tuple[str, ...]) -> frozenset[str]:
    return frozenset({f"processes of {target[0]}"})


def _inject(cloud: FaultyCloud, fault: Fault, wait: Wait) -> None:
    control = connect(cloud.state.root)
    pids = {status.name: status.pid for status in control.status()} if control else {}
    pid = pids.get("/".join(fault.target))
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait(fault.lasts_s)


KILL_PROCESS = Kind("kill_process", _draw, _claims, _inject)

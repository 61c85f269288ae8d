"""SIGKILL of the database server that a site starts; the supervisor starts it again, and each acknowledged change must be there."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from atoll.bench.faults.fault import Fault, FaultyCloud, Kind, Wait, a_site
from atoll.bench.faults.kinds import kill_process
from atoll.runtime.client import connect
from atoll.services.engines import SERVERS


def _inject(cloud: FaultyCloud, fault: Fault, wait: Wait) -> None:
    (site,) = fault.target
    servers = {f"{site}/{engine}" for engine in SERVERS}
    control = connect(cloud.state.root)
    for status in control.status() if control else ():
        if status.name in servers and status.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(status.pid, signal.SIGKILL)
    wait(fault.lasts_s)


KILL_DATABASE = Kind("kill_database", a_site, kill_process.KILL_PROCESS.claims, _inject)

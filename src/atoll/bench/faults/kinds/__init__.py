"""The kinds of faults, with one module for each."""

from __future__ import annotations

from atoll.bench.faults.kinds.clock import CLOCK
from atoll.bench.faults.kinds.crash import CRASH
from atoll.bench.faults.kinds.cut import CUT_LINK, CUT_SITE
from atoll.bench.faults.kinds.flapping import FLAPPING
from atoll.bench.faults.kinds.kill_database import KILL_DATABASE
from atoll.bench.faults.kinds.kill_process import KILL_PROCESS
from atoll.bench.faults.kinds.kill_site import KILL_SITE
from atoll.bench.faults.kinds.loss import LOSS
from atoll.bench.faults.kinds.one_way import ONE_WAY

KINDS = {kind.name: kind for kind in (CUT_SITE, CUT_LINK, ONE_WAY, FLAPPING, LOSS, KILL_PROCESS, CRASH, KILL_SITE, CLOCK)}
"""The kinds of faults that can happen to every cloud, by name."""

SERVER_KINDS = {**KINDS, KILL_DATABASE.name: KILL_DATABASE}
"""The kinds of faults, by name, where each site starts a database server."""

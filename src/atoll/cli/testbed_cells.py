"""Cells of experiments on the hosts of a testbed: the sites run on the hosts, and the clients on this machine.

All cells share one reservation. After a cell, its sites are deleted; after the last, the hosts are released.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from atoll.errors import AtollError

if TYPE_CHECKING:
    from atoll.bench.cell_workloads import Place
    from atoll.bench.cells import Work
    from atoll.testbed.record import HostsRecord

Say = Callable[[str], None]


def check(provider: Path, works: Iterable[Work]) -> None:
    """Refuse cells that a testbed can't run, before anything starts.

    Args:
        provider: the provider's file.
        works: the work of all cells.

    Raises:
        AtollError: `testbed.invalid`: the provider's file is not valid, or a cell has faults, a broker, RabbitMQ, a workload of Rally, or a
            property of a link that a testbed lacks; `cloud.invalid`: a cell's cloud can't be on a testbed.
    """
    from atoll.cloud import Cloud
    from atoll.testbed.document import read_provider
    from atoll.testbed.up import check_cloud

    read_provider(provider)
    for work in works:
        for what, given in (
            ("faults", work.faults),
            ("a workload of Rally", "rally" in work.parameters),
            ("the architecture `regions`", work.broker),
            (f"the architecture `{work.system}`", work.system != "cloud"),
            ("RabbitMQ", work.rabbitmq),
        ):
            if given:
                hint = "run the experiment on one machine, without --provider"
                raise AtollError("testbed.invalid", f"a cell has {what}: expected none on a testbed", hint)
        check_cloud(Cloud.model_validate(work.cloud))


def run_cell(directory: Path, provider: Path, work: Work, record: Callable[..., None], say: Say) -> dict[str, Any]:
    """Bring the cloud of a cell up on its hosts, run the workload, and delete the sites.

    Args:
        directory: the state directory of the hosts.
        provider: the provider's file.
        work: the work.
        record: called with the fields of each sample.
        say: called with lines about the progress.

    Returns:
        `up_s`, the seconds until the cloud was up, and `memory_mb`, the memory of all its processes after the workload, in megabytes.

    Raises:
        AtollError: as for `atoll.testbed.up.up`; `bench.failed`: the workload could not be done.
    """
    from atoll.bench.cell_workloads import WORKLOADS, CellRecorder
    from atoll.files import make_directory
    from atoll.site.state import State, default_cache
    from atoll.testbed import overview, teardown
    from atoll.testbed.record import exists
    from atoll.testbed.up import up

    state, cache = State(directory), default_cache().absolute()
    if exists(state):
        teardown.clear(state, cache, say)  # of a cell that was interrupted
    make_directory(directory.parent)
    file = directory.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(dict(work.cloud)), encoding="utf-8")
    begun = time.monotonic()
    try:
        made = up(state, cache, file, provider, say)
        up_s = time.monotonic() - begun
        WORKLOADS[work.workload](_places(made), CellRecorder(record), work.parameters, work.seed)
        memory = sum(each["memory_bytes"] or 0 for each in overview.sites(made))
    finally:
        if exists(state):
            teardown.clear(state, cache, say)
    return {"up_s": round(up_s, 3), "memory_mb": round(memory / 1e6, 1)}


def _places(record: HostsRecord) -> list[Place]:
    """Return, for each site, a user who reaches the site from this machine."""
    from atoll.bench.api import Api
    from atoll.bench.cell_workloads import Place

    entries = yaml.safe_load(record.state.clouds_file.read_text(encoding="utf-8"))["clouds"]
    found = []
    for name in record.placed:
        account = entries[name]["auth"]
        api = Api(account["auth_url"], account["password"])
        api.sign_in()
        found.append(Place(name, api, None))
    return found


@contextmanager
def released(directory: Path, say: Say) -> Iterator[None]:
    """Release the hosts of a state directory when the context ends, also after an error."""
    from atoll.site.state import State, default_cache
    from atoll.testbed import teardown
    from atoll.testbed.record import exists

    try:
        yield
    finally:
        state = State(directory)
        if exists(state):
            teardown.destroy(state, default_cache().absolute(), (), say)
        directory.with_suffix(".yaml").unlink(missing_ok=True)

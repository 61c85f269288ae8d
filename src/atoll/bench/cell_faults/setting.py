"""The preparation of a cell's cloud for faults: clocks that can be set, a disk for a single site, and points that processes announce."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll.bench.cell_faults import points
from atoll.bench.cell_faults.conductor import Conductor, Record
from atoll.bench.cell_faults.disks import SiteDisks
from atoll.bench.cell_faults.kinds import DISK_KINDS, Stage
from atoll.bench.cell_faults.links import FaultyLinks
from atoll.bench.cell_faults.step import FaultStep
from atoll.bench.failure import failed
from atoll.bench.faults.clocks import Clocks
from atoll.bench.faults.fault import FaultyCloud
from atoll.bench.own_cloud import Companion, OwnCloud
from atoll.bench.progress import Say
from atoll.bench.site_broker import SiteBroker
from atoll.cloud import Cloud


@dataclass(frozen=True)
class Setting:
    """The files of a cell's faults.

    Attributes:
        steps: the faults.
        root: the cell's own directory.
        clocks: the clocks of the sites; `None` if no fault sets a clock.
        disks: the disks of the sites whose disk has a fault; `None` if no site has one.
    """

    steps: tuple[FaultStep, ...]
    root: Path
    clocks: Clocks | None
    disks: SiteDisks | None = None

    @property
    def companions(self) -> Sequence[Companion]:
        """The companions that must be started before the cloud: the disks of sites, if faults need them."""
        return [] if self.disks is None else [self.disks]

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that the processes of the cloud need."""
        made = dict(self.clocks.environment) if self.clocks is not None else {}
        if any(step.when is not None for step in self.steps):
            made[points.FILE] = str(self.root / "points.json")
        return made

    @contextmanager
    def conducted(self, own: OwnCloud, cloud: Cloud, broker: SiteBroker | None, record: Record, say: Say) -> Iterator[Conductor]:
        """Inject the faults while the context lasts, and yield their conductor.

        Args:
            own: the running cloud.
            cloud: the model of the cloud, with a topology.
            broker: the RabbitMQ at one of the sites; `None` if the cloud has none.
            record: called with the times of each fault that happened.
            say: called with a line about each fault.
        """
        if cloud.network is None:
            raise failed("the cloud has no topology: expected one, because faults change its links")
        made = FaultyCloud(own.state, cloud.site_names, own.environment, own.log, self.clocks)
        if self.clocks is not None:
            self.clocks.register({site: made.wan.namespace(site) for site in cloud.site_names})
        stage = Stage(made, FaultyLinks(made.wan, cloud.network), self.disks, broker)
        with Conductor(stage, self.steps, self.root / "points.sock", record, say) as conductor:
            yield conductor


def prepare(root: Path, faults: Sequence[Mapping[str, Any]]) -> Setting:
    """Make the files of a cell's faults, before its cloud starts.

    Args:
        root: the cell's own directory.
        faults: the steps, as in the data of the cell.

    Raises:
        AtollError: `bench.requirement`: a fault sets a clock, but this machine has no C compiler.
    """
    steps = tuple(FaultStep.from_json(number, each) for number, each in enumerate(faults, 1))
    waited = {step.number: step.when for step in steps if step.when is not None}
    if waited:
        points.write(root / "points.json", root / "points.sock", waited)
    damaged = [step.target for step in steps if step.kind in DISK_KINDS]
    clocks = Clocks(root) if any(step.kind == "clock" for step in steps) else None
    return Setting(steps, root, clocks, SiteDisks(root, damaged) if damaged else None)

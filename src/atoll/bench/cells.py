"""One cell of an experiment file: a cloud of its own, a client inside each of its sites, one workload, and its faults.

`atoll.experiment` combines, repeats and compares cells, but does not know how a cloud is started; the command line passes `run_cell` to it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from atoll.bench import cell_workloads, command, rally_workload
from atoll.bench.api import Api
from atoll.bench.cell_faults.setting import prepare
from atoll.bench.cell_hooks import ENVIRONMENT
from atoll.bench.cell_sampler import CellSampler, Receivers, cloud_processes, link_counters
from atoll.bench.cell_steps import STEPS
from atoll.bench.cell_workloads import CellRecorder, Place, Run
from atoll.bench.cloud.stage import MeasuredCloud, SiteApi
from atoll.bench.failure import failed
from atoll.bench.own_cloud import own_cloud
from atoll.bench.processes import memory_mb
from atoll.bench.progress import Say
from atoll.bench.rally_workload import RallySetting
from atoll.bench.regions.alone import ALONE
from atoll.bench.regions.users import brokered
from atoll.bench.site_broker import SiteBroker
from atoll.bench.workspace import workspace
from atoll.cloud import Cloud
from atoll.site.databases import flush_policy
from atoll.site.state import State
from atoll.wan.isolation import within

WORKLOADS: Mapping[str, Run] = {**cell_workloads.WORKLOADS, **STEPS}
"""The functions that carry out the workloads, by name, besides those of Rally."""


@dataclass(frozen=True)
class Work:
    """The work of a cell.

    Attributes:
        cloud: the document of the cloud, with a topology.
        workload: the name of the workload, one of `WORKLOADS`.
        parameters: the parameters of the workload.
        seed: the seed of random choices in the cell.
        faults: the faults of the cell, as `atoll.experiment.faults.Step.to_json` returns them.
        broker: the order in which a broker asks the cloud's regions, "parallel" or "serial"; empty for a cloud without a broker.
        rabbitmq: the site in whose network RabbitMQ must run for the cloud's services; empty if they use no RabbitMQ.
        rally: the place of Rally's program and of its files, if Rally runs the workload.
        system: the system to start: "cloud", "bus" or "hollow"; `run_cell` of this module starts clouds.
    """

    cloud: Mapping[str, Any]
    workload: str
    parameters: Mapping[str, Any]
    seed: int
    faults: Sequence[Mapping[str, Any]] = ()
    broker: str = ""
    rabbitmq: str = ""
    rally: RallySetting | None = None
    system: str = "cloud"


@dataclass(frozen=True)
class Records:
    """The receivers of the data of a cell.

    Attributes:
        sample: called with operation, site, seconds of intended start, start and end, success, and error of each sample.
        fault: called with the fields of `atoll.experiment.samples.FaultEvent` for each fault that happened.
        usage: called with the fields of `atoll.experiment.samples.UsageReading` for each reading of the sites' processes.
        traffic: called with the fields of `atoll.experiment.samples.TrafficReading` for each reading of the links' counters.
        value: called with the fields of `atoll.experiment.samples.Value` for each measured number that is not a latency.
    """

    sample: Callable[..., None]
    fault: Callable[..., None] = lambda *_fields: None
    usage: Callable[..., None] = lambda *_fields: None
    traffic: Callable[..., None] = lambda *_fields: None
    value: Callable[..., None] = lambda *_fields: None


def run_cell(work: Work, environment: Mapping[str, str], records: Records, say: Say) -> dict[str, Any]:
    """Start the cloud of a cell, run its workload with its faults, and destroy the cloud.

    Args:
        work: the work.
        environment: the environment of the cloud's processes.
        records: the receivers of the data.
        say: called with lines about the progress.

    Returns:
        `up_s`, the seconds until the cloud was up, and `memory_mb`, the memory of all its processes after the workload, in megabytes.

    Raises:
        AtollError: `bench.failed`: the cloud did not start, the workload could not be done, or a fault did not happen;
            `bench.requirement`: a fault sets a clock, but this machine has no C compiler.
    """
    run = WORKLOADS.get(work.workload) if work.rally is None else partial(rally_workload.run, work.rally)
    if run is None:
        raise failed(f"no workload is called {work.workload}: expected one of {', '.join(WORKLOADS)}")
    with workspace(environment, say) as space:
        root = space.root
        setting = prepare(root, work.faults)
        hooked = setting.environment | ({ALONE: "1"} if work.broker else {})
        environment = {**environment, **hooked, **(ENVIRONMENT if hooked else {})}
        broker = SiteBroker(root, work.rabbitmq, work.cloud, environment) if work.rabbitmq else None
        document = broker.document(work.cloud) if broker is not None else work.cloud
        with own_cloud(root, document, environment, [*setting.companions, *([broker] if broker is not None else [])]) as own:
            cloud = Cloud.model_validate(document)
            made = MeasuredCloud(own.state, tuple(site.name for site in cloud.full_sites), 0.0, environment, own.log)
            watch = sampler(own.state, cloud, broker, records)
            begun = time.monotonic()
            with users(made, cloud, work.broker) as found, watch:
                if work.faults:
                    with setting.conducted(own, cloud, broker, records.fault, say) as conductor:
                        run(found, CellRecorder(records.sample, both(watch.begin, conductor.begin)), work.parameters, work.seed)
                        conductor.finish()
                else:
                    run(found, CellRecorder(records.sample, watch.begin), work.parameters, work.seed)
                seconds = time.monotonic() - begun
                beside = broker.pids() if broker is not None else []
                memory = memory_mb([*command.pids(own.state), *beside])
                measured = {"up_s": round(own.up_s, 3), "memory_mb": memory, **flushes(made, cloud)}
            return measured | watch.facts(seconds)


def sampler(state: State, cloud: Cloud, broker: SiteBroker | None, records: Records) -> CellSampler:
    """Return the sampler of a cell's cloud, which is not started.

    Args:
        state: the state directory of the running cloud.
        cloud: the model of the cloud.
        broker: the RabbitMQ at one of the sites; `None` if the cloud has none.
        records: the receivers of the readings.
    """
    return CellSampler(cloud_processes(state, cloud.site_names, broker), link_counters(state), Receivers(records.usage, records.traffic))


def both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    """Return a function that calls two functions, one after the other."""

    def call() -> None:
        first()
        second()

    return call


def flushes(made: MeasuredCloud, cloud: Cloud) -> dict[str, Any]:
    """Return the settings by which the databases of the full sites flush commits, and whether a commit is on the disk when COMMIT returns.

    If sites share a database, its owner is asked for all of them.

    Raises:
        AtollError: `bench.failed`: a database server flushes otherwise than its site's `durability` requires; `database.unavailable`: a
            database server does not answer.
    """
    found: dict[str, bool] = {}
    for site in cloud.full_sites:
        if site.database.of:
            continue
        policy = flush_policy(made.settings(site.name))
        if policy.each_commit != (site.durability == "full"):
            expected = "each commit" if site.durability == "full" else "not each commit"
            text = f"the database of {site.name} ({policy.setting}) does not flush commits as `durability` requires: expected {expected}"
            raise failed(text)
        found[policy.setting] = policy.each_commit
    return {"flush": "; ".join(found), "flushes_each_commit": all(found.values())}


@contextmanager
def users(made: MeasuredCloud, cloud: Cloud, broker: str) -> Iterator[list[Place]]:
    """Yield the places of a cloud's users, as soon as the cloud's sites see each other, or its broker reaches the regions.

    Args:
        made: the running cloud.
        cloud: the model of the cloud.
        broker: the order in which a broker asks the cloud's regions, "parallel" or "serial"; empty for a cloud without a broker.
    """
    if not broker:
        made.await_joined()
        yield places(made, cloud)
        return
    with brokered(made, broker) as apis:
        yield [Place(site, api, None, _opener(made, site), alone=True) for site, api in apis.items()]


def places(made: MeasuredCloud, cloud: Cloud) -> list[Place]:
    """Return a place for each site: a client in the site's network, which uses the site's gateway or that of its control site."""
    found = []
    mixed = len(cloud.full_sites) < len(cloud.sites)
    for site in cloud.sites:
        if site.control is None:
            # A full site needs to name its host only if the cloud has compute sites.
            api: Api = made.api(site.name)
            host = site.name if mixed else None
        else:
            api, host = _far_api(made, site.name, site.control), site.name
        found.append(Place(site.name, api, host, _opener(made, site.name), network=made.network(site.name)))
    return found


def _opener(made: MeasuredCloud, site: str) -> Callable[[], socket.socket]:
    """Return a function that makes a socket in the network of a site, for a client that does not block."""
    network = made.network(site)

    def open_socket() -> socket.socket:
        opened = within(network, partial(socket.socket, socket.AF_INET, socket.SOCK_STREAM))
        opened.setblocking(False)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened

    return open_socket


def _far_api(made: MeasuredCloud, site: str, control: str) -> Api:
    """Return a client in the network of a compute site, which uses the gateway of the control site."""
    settings = made.settings(control)
    api = SiteApi(made.network(site), settings.public_url("identity", "/v3"), settings.secrets["admin"])
    api.sign_in()
    return api

"""The two clouds that are compared, one with stock and one with reduced traffic: each has a full site and a compute site."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from atoll.bench import command
from atoll.bench.cloud.stage import MeasuredCloud, SiteApi
from atoll.bench.own_cloud import own_cloud
from atoll.bench.processes import processor_seconds
from atoll.bench.waiting import wait_until

CONTROL, EDGE = "control", "edge"
"""Names of the full site and of its compute site."""

STOCK, REDUCED = "stock", "reduced"
VARIANTS = (STOCK, REDUCED)
"""Values of the key `traffic` that are compared: `stock`, upstream's own code, and `reduced`, the default of a site."""

_TRACE_MB = 256
_UP_S = 180.0


class Variant:
    """One of the clouds, running.

    Args:
        name: the value of the cloud's key `traffic`.
        cloud: the running cloud.
    """

    def __init__(self, name: str, cloud: MeasuredCloud) -> None:
        self.name = name
        self.cloud = cloud

    @property
    def api(self) -> SiteApi:
        """A client at the full site, signed in as the cloud's administrator."""
        return self.cloud.api(CONTROL)

    def processor_s(self) -> float:
        """Return the processor time in seconds that all processes of the cloud have used."""
        return sum(processor_seconds(command.pids(self.cloud.state)).values())

    def set_rtt(self, rtt_ms: float) -> None:
        """Set the round trip between the sites, in milliseconds."""
        self.cloud.each_link({"delay_ms": rtt_ms / 2})


@contextmanager
def stage(root: Path, environment: Mapping[str, str], names: Sequence[str] = VARIANTS) -> Iterator[list[Variant]]:
    """Start the clouds, without delay between the sites; yield them, and destroy them when the context ends.

    All work is recorded, including periodic tasks, except requests whose trace headers ask not to be recorded.

    Args:
        root: the experiment's own directory.
        environment: the environment of the commands.
        names: the clouds to start, from `VARIANTS`.

    Raises:
        AtollError: `bench.failed`: a cloud did not start.
    """
    with ExitStack() as stack:
        yield [stack.enter_context(_variant(root / name, name, environment)) for name in names]


@contextmanager
def _variant(root: Path, traffic: str, environment: Mapping[str, str]) -> Iterator[Variant]:
    root.mkdir()
    sites = [
        {"name": CONTROL, "compute": "fake", "traffic": traffic},
        {"name": EDGE, "kind": "compute", "compute": "fake", "control": CONTROL},
    ]
    topology = {"preset": "mesh", "defaults": {"delay": "0ms"}}
    document = {"name": "bench", "sites": sites, "topology": topology, "trace": {"sample": 1.0, "size_mb": _TRACE_MB}}
    with own_cloud(root, document, environment) as own:
        variant = Variant(traffic, MeasuredCloud(own.state, (CONTROL, EDGE), 0, environment, own.log))
        wait_until(partial(_has_hosts, variant), "both hosts are up", _UP_S)
        yield variant


def _has_hosts(variant: Variant) -> bool:
    answer = variant.api.call("compute", "GET", "/os-services?binary=nova-compute")
    return answer.ok and {each["host"] for each in answer.body["services"] if each["state"] == "up"} == {CONTROL, EDGE}

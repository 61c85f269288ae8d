"""A plan in numbers: round trips, transfer times, load and bounds, by the index of each site, operation and image."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from math import inf

from atoll.cloud.network import Network
from atoll.cloud.quantities import megabits, probability
from atoll.experiment.plan.costs import Costs, costs
from atoll.experiment.plan.document import PlacementPlan, Prices
from atoll.experiment.quantities import seconds, size_bytes
from atoll.trace.tree import Trace

HOUR_S = 3600.0
_BYTES_OF_MBIT = 125_000.0


@dataclass(frozen=True)
class Demand:
    """One kind of operation.

    Attributes:
        name: the name of the operation.
        costs: the costs of the operation.
        within_s: the longest time that the operation may take, in seconds; infinity means no bound.
        image: the index of the image that the operation needs; `None` means that it needs no image.
        load: operations per hour, by site.
    """

    name: str
    costs: Costs
    within_s: float
    image: int | None
    load: tuple[float, ...]


@dataclass(frozen=True)
class Picture:
    """One image of a plan.

    Attributes:
        name: the name of the image.
        bytes: the size of the image in bytes.
        misses: share of the operations that fetch the image, 0 to 1.
    """

    name: str
    bytes: int
    misses: float


@dataclass(frozen=True)
class Problem:
    """A plan in numbers.

    Attributes:
        names: the names of the sites; all lists by site have this order.
        kinds: the kind of each site; `None` if the plan is to decide it.
        rtt_s: the round trip between every two sites, in seconds.
        byte_s: the seconds that each byte takes between every two sites, which is the reciprocal of their path's rate.
        demands: the operations.
        images: the images.
        full, compute, controlled: bytes of memory of the processes; see `Footprints`.
        memory, disk: the greatest allowed memory and disk space in bytes, by site.
        wan: the greatest allowed traffic in bytes per hour, by site.
        wan_total: the greatest allowed traffic of the whole cloud in bytes per hour.
        survive: the number of full sites that may fail; see `Budgets`.
        full_sites: the greatest number of full sites.
        mesh: bytes per hour that a full site sends to the others while it is idle.
        prices: the prices of the resources.
    """

    names: tuple[str, ...]
    kinds: tuple[str | None, ...]
    rtt_s: tuple[tuple[float, ...], ...]
    byte_s: tuple[tuple[float, ...], ...]
    demands: tuple[Demand, ...]
    images: tuple[Picture, ...]
    full: int
    compute: int
    controlled: int
    memory: tuple[float, ...]
    disk: tuple[float, ...]
    wan: tuple[float, ...]
    wan_total: float
    survive: int
    full_sites: float
    mesh: float
    prices: Prices

    @property
    def count(self) -> int:
        """The number of sites."""
        return len(self.names)

    def served_s(self, demand: Demand, site: int, control: int) -> float:
        """Return the seconds that an operation takes for users of `site` if `control` serves it, without the transfer of an image."""
        return demand.costs.time_s + (demand.costs.round_trips * self.rtt_s[site][control] if site != control else 0.0)

    def fetch_s(self, image: int, site: int, source: int) -> float:
        """Return the seconds in which a site fetches an image from a source, a site with a copy; 0 if the site is its own source."""
        return 0.0 if site == source else self.rtt_s[site][source] + self.images[image].bytes * self.byte_s[site][source]

    def image_users(self, image: int) -> list[int]:
        """Return the sites whose users start operations that need an image."""
        return [site for site in range(self.count) if self.image_load(image, site) > 0]

    def image_load(self, image: int, site: int) -> float:
        """Return the number of times per hour that a site fetches an image."""
        return self.images[image].misses * sum(demand.load[site] for demand in self.demands if demand.image == image)

    def reaches(self, site: int, control: int, ignoring: Collection[str] = ()) -> bool:
        """Return whether a control site serves all operations of a site within their bounds, apart from transfers of images.

        Args:
            site: the index of the site.
            control: the index of the control site.
            ignoring: names of operations whose bounds are ignored.
        """
        return all(
            demand.name in ignoring or demand.load[site] == 0 or self.served_s(demand, site, control) <= demand.within_s + TOLERANCE
            for demand in self.demands
        )

    def can_be_full(self, site: int) -> bool:
        """Return whether a site has enough memory for a full site, and the file does not require it to be a compute site."""
        return self.kinds[site] != "compute" and self.memory[site] >= self.full

    def dominated(self, site: int, control: int) -> bool:
        """Return whether no optimal plan has `control` serve `site`, because making `site` a full site is cheaper and breaks no bound."""
        free = self.can_be_full(site) and self.kinds[site] is None and self.full_sites == inf and self.mesh <= self.control_bytes(site)
        return free and self.control_prices[site][control] > self.full_price() + self.control_prices[site][site]

    @cached_property
    def control_prices(self) -> list[list[float]]:
        """The price of each control site for each site (`control_price`): a list by site of lists by control site."""
        return [[self.control_price(site, control) for control in range(self.count)] for site in range(self.count)]

    @cached_property
    def reachable(self) -> list[list[bool]]:
        """The answers of `reaches` for each site and each control site: a list by site of lists by control site."""
        return [[self.reaches(site, control) for control in range(self.count)] for site in range(self.count)]

    @cached_property
    def source_prices(self) -> dict[tuple[int, int], list[float]]:
        """The price of each source (`source_price`), by image and site; only for sites that need the image."""
        return {
            (image, site): [self.source_price(image, site, source) for source in range(self.count)]
            for image in range(len(self.images))
            for site in self.image_users(image)
        }

    def control_price(self, site: int, control: int) -> float:
        """Return the price per hour if `control` serves `site`: of users' waiting time, traffic, and memory at the control site."""
        waiting = sum(demand.load[site] * self.served_s(demand, site, control) for demand in self.demands) / HOUR_S
        if site == control:
            return self.prices.waiting * waiting
        return self.prices.waiting * waiting + self.prices.wan * self.control_bytes(site) / 1e9 + self.prices.memory * self.controlled / 1e9

    def control_bytes(self, site: int) -> float:
        """Return the bytes per hour between a compute site and its control site, without images."""
        return sum(demand.load[site] * demand.costs.bytes for demand in self.demands)

    def source_price(self, image: int, site: int, source: int) -> float:
        """Return the price per hour if a site fetches an image from `source`, a site with a copy."""
        load = self.image_load(image, site)
        waiting = self.prices.waiting * load * self.fetch_s(image, site, source) / HOUR_S
        return waiting + self.prices.wan * self.source_bytes(image, site, source) / 1e9

    def source_bytes(self, image: int, site: int, source: int) -> float:
        """Return the bytes per hour that flow if a site fetches an image from `source`, a site with a copy."""
        return 0.0 if site == source else self.image_load(image, site) * self.images[image].bytes

    def full_price(self) -> float:
        """Return the difference of the prices per hour of a full site and a compute site."""
        return self.prices.memory * (self.full - self.compute) / 1e9 + self.prices.wan * self.mesh / 1e9

    def copy_price(self, image: int) -> float:
        """Return the price per hour of one kept copy of an image."""
        return self.prices.disk * self.images[image].bytes / 1e9

    def base_price(self) -> float:
        """Return the price per hour of the memory of all sites if all were compute sites."""
        return self.prices.memory * self.compute * self.count / 1e9


TOLERANCE = 1e-6
"""Amount by which a bound may be exceeded, in the unit of the bound: the precision of the solver."""


def problem(plan: PlacementPlan, find: Callable[[str], Trace]) -> Problem:
    """Convert the document of a plan to numbers.

    Args:
        plan: the document.
        find: returns the trace that a file, given by its path in the document, holds.

    Raises:
        AtollError: `trace.*`: a trace can't be read, or is incomplete.
    """
    names = tuple(site.name for site in plan.sites)
    images = tuple(Picture(name, size_bytes(image.size), probability(image.misses)) for name, image in plan.images.items())
    index = {image.name: number for number, image in enumerate(images)}
    demands = tuple(
        Demand(
            name,
            costs(name, operation, find),
            inf if operation.within is None else seconds(operation.within),
            None if operation.image is None else index[operation.image],
            tuple(site.load.get(name, 0.0) for site in plan.sites),
        )
        for name, operation in plan.operations.items()
    )
    rtt_s, byte_s = _distances(names, plan.network)
    return Problem(
        names=names,
        kinds=tuple(site.kind for site in plan.sites),
        rtt_s=rtt_s,
        byte_s=byte_s,
        demands=demands,
        images=images,
        full=size_bytes(plan.footprints.full),
        compute=size_bytes(plan.footprints.compute),
        controlled=size_bytes(plan.footprints.controlled),
        memory=tuple(_size(site.memory) for site in plan.sites),
        disk=tuple(_size(site.disk) for site in plan.sites),
        wan=tuple(_hourly(site.wan) for site in plan.sites),
        wan_total=_hourly(plan.budgets.wan),
        survive=plan.budgets.survive,
        full_sites=plan.budgets.full_sites if plan.budgets.full_sites is not None else inf,
        mesh=0.0 if plan.mesh is None else _hourly(plan.mesh),
        prices=plan.prices,
    )


def _size(text: str | None) -> float:
    return inf if text is None else float(size_bytes(text))


def _hourly(text: str | None) -> float:
    """Convert a rate given as text to bytes per hour; `None` becomes infinity."""
    rate = None if text is None else megabits(text)
    return inf if rate is None else rate * _BYTES_OF_MBIT * HOUR_S


_Matrix = tuple[tuple[float, ...], ...]


def _distances(names: tuple[str, ...], network: Network | None) -> tuple[_Matrix, _Matrix]:
    """Return two matrices, in seconds: the round trip between every two sites, and the time that a byte takes from one site to another."""
    if network is None:
        return ((0.0,),), ((0.0,),)
    delays: dict[tuple[str, str], tuple[float, float]] = {}
    for start in names:
        for end in names:
            wires = [network.wires[step] for step in network.path(start, end) or ()]
            slowest = min((wire.rate_mbit for wire in wires if wire.rate_mbit is not None), default=None)
            delays[start, end] = sum(wire.delay_ms for wire in wires) / 1e3, 0.0 if slowest is None else 1 / (slowest * _BYTES_OF_MBIT)
    rtt = tuple(tuple(delays[a, b][0] + delays[b, a][0] for b in names) for a in names)
    # In the matrix of bytes, the first index is the receiving site, the second index the source of the image.
    return rtt, tuple(tuple(delays[b, a][1] for b in names) for a in names)

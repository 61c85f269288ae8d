"""A placement and its evaluation: the price, the used resources, and the bounds that are kept or broken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from atoll.experiment.plan.problem import TOLERANCE, Problem


@dataclass(frozen=True)
class Placement:
    """The sites at which the parts of a cloud are placed. Sites and images are given by their index in `Problem`.

    Attributes:
        controls: the control site of each site; a full site is its own control site.
        copies: for each image, the full sites that keep a copy.
        sources: by image and site, the site from which that site fetches the image; only for sites that need the image.
    """

    controls: tuple[int, ...]
    copies: tuple[frozenset[int], ...]
    sources: Mapping[tuple[int, int], int]

    @property
    def full(self) -> frozenset[int]:
        """The indices of the full sites."""
        return frozenset(self.controls)


@dataclass(frozen=True)
class Usage:
    """The use of one bound.

    Attributes:
        bound: the kind of the bound, as in the file: `memory`, `disk`, `wan`, `within`, `survive`, `kind` or `full_sites`.
        subject: the site, image or operation that the bound concerns; empty for the whole cloud.
        used, limit: the used and the allowed amount, both in bytes, bytes per hour, seconds, or numbers of sites.
        least: whether `limit` is the least allowed amount, instead of the greatest.
    """

    bound: str
    subject: str
    used: float
    limit: float
    least: bool = False

    @property
    def broken(self) -> bool:
        """True if the bound is exceeded."""
        excess = self.limit - self.used if self.least else self.used - self.limit
        return excess > TOLERANCE * max(1.0, abs(self.limit))


def price(problem: Problem, placement: Placement) -> float:
    """Return the price of a placement per hour."""
    served = sum(problem.control_prices[site][control] for site, control in enumerate(placement.controls))
    fetched = sum(problem.source_prices[key][source] for key, source in placement.sources.items())
    kept = sum(len(sites) * problem.copy_price(image) for image, sites in enumerate(placement.copies))
    return problem.base_price() + len(placement.full) * problem.full_price() + served + fetched + kept


def memory(problem: Problem, placement: Placement, site: int) -> float:
    """Return the bytes of memory that the processes of a site use."""
    if site not in placement.full:
        return problem.compute
    return problem.full + problem.controlled * sum(control == site for other, control in enumerate(placement.controls) if other != site)


def traffic(problem: Problem, placement: Placement) -> tuple[list[float], float]:
    """Return the bytes per hour that each site sends and receives, and the bytes per hour of the cloud, in which each byte counts once."""
    full = placement.full
    used = [problem.mesh if site in full else 0.0 for site in range(problem.count)]
    total = problem.mesh * len(full)
    for site, control in enumerate(placement.controls):
        if site != control:
            count = problem.control_bytes(site)
            used[site] += count
            used[control] += count
            total += count
    for (image, site), source in placement.sources.items():
        if site != source:
            count = problem.source_bytes(image, site, source)
            used[site] += count
            used[source] += count
            total += count
    return used, total


def latency_s(problem: Problem, placement: Placement, demand: int, site: int) -> float:
    """Return the seconds that an operation takes for a site's users, including the transfer of its image, if it needs one.

    Args:
        problem: the plan in numbers.
        placement: the plan.
        demand: the index of the operation.
        site: the index of the site.
    """
    each = problem.demands[demand]
    served = problem.served_s(each, site, placement.controls[site])
    if each.image is None or problem.images[each.image].misses == 0:
        return served
    return served + problem.fetch_s(each.image, site, placement.sources[each.image, site])


def usages(problem: Problem, placement: Placement) -> list[Usage]:
    """Return the use of every bound that the file gives."""
    return [each for each in _usages(problem, placement) if abs(each.limit) != inf]


def _usages(problem: Problem, placement: Placement) -> Iterator[Usage]:
    full, (used, total) = placement.full, traffic(problem, placement)
    for site, name in enumerate(problem.names):
        yield Usage("memory", name, memory(problem, placement, site), problem.memory[site])
        yield Usage("disk", name, disk(problem, placement, site), problem.disk[site])
        yield Usage("wan", name, used[site], problem.wan[site])
        if problem.kinds[site] is not None:
            yield Usage("kind", name, float((site in full) != (problem.kinds[site] == "full")), 0.0)
    yield Usage("wan", "", total, problem.wan_total)
    yield Usage("full_sites", "", len(full), problem.full_sites)
    for number, demand in enumerate(problem.demands):
        for site, name in enumerate(problem.names):
            if demand.load[site]:
                yield Usage("within", f"{demand.name} at {name}", latency_s(problem, placement, number, site), demand.within_s)
    if problem.survive:
        for site, name in enumerate(problem.names):
            yield Usage("survive", name, sum(problem.reachable[site][each] for each in full), problem.survive + 1, least=True)
        for image, sites in enumerate(placement.copies):
            yield Usage("survive", f"image {problem.images[image].name}", len(sites), problem.survive + 1, least=True)


def disk(problem: Problem, placement: Placement, site: int) -> float:
    """Return the bytes of the image copies that a site keeps."""
    return sum(problem.images[image].bytes for image, sites in enumerate(placement.copies) if site in sites)


def settle(problem: Problem, full: frozenset[int], copies: tuple[frozenset[int], ...]) -> Placement:
    """Return the placement in which each site is served by the cheapest full site, and fetches images from the cheapest copy.

    Full sites that serve the site within the bounds of its operations are preferred to cheaper ones that don't. A full site serves itself.

    Args:
        problem: the plan in numbers.
        full: the full sites, at least one.
        copies: for each image, the full sites that keep a copy, at least one.
    """
    order = sorted(full)
    controls = tuple(site if site in full else _cheapest_control(problem, site, order) for site in range(problem.count))
    sources = {key: min(copies[key[0]], key=prices.__getitem__) for key, prices in problem.source_prices.items()}
    return Placement(controls, copies, sources)


def _cheapest_control(problem: Problem, site: int, full: Sequence[int]) -> int:
    near, prices = problem.reachable[site], problem.control_prices[site]
    return min(full, key=lambda each: (not near[each], prices[each]))


def waiting_s(problem: Problem, placement: Placement) -> float:
    """Return the seconds that users of all sites together wait per hour."""
    served = sum(demand.load[site] * problem.served_s(demand, site, placement.controls[site])
                 for demand in problem.demands for site in range(problem.count))  # fmt: skip
    fetched = sum(
        problem.image_load(image, site) * problem.fetch_s(image, site, source) for (image, site), source in placement.sources.items()
    )
    return served + fetched

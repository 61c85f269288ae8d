"""The flavors of the cloud, of which the smallest that fits is chosen for an application."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from atoll.gateway.edge.front import Question
from atoll.gateway.edge.user_services import UserServices


@dataclass(frozen=True)
class Needs:
    """The resources that an application needs at least.

    Attributes:
        cpus: the number of virtual processors.
        memory_mb: the memory in megabytes.
        disk_gb: the disk in gigabytes.
    """

    cpus: int = 1
    memory_mb: int = 0
    disk_gb: int = 0

    def and_image(self, image: Mapping[str, Any]) -> Needs:
        """Return these needs, raised to those that an image's fields name."""
        memory_mb, disk_gb = image.get("min_ram"), image.get("min_disk")
        return Needs(
            self.cpus,
            max(self.memory_mb, memory_mb if type(memory_mb) is int else 0),
            max(self.disk_gb, disk_gb if type(disk_gb) is int else 0),
        )


@dataclass(frozen=True, order=True)
class Flavor:
    """A flavor of Nova; smaller ones sort first.

    Attributes:
        memory_mb: the memory in megabytes.
        cpus: the number of virtual processors.
        disk_gb: the disk in gigabytes; 0 for the size of the image.
        id: the id of the flavor.
    """

    memory_mb: int
    cpus: int
    disk_gb: int
    id: str

    def fits(self, needs: Needs) -> bool:
        """Return whether the flavor has the resources that an application needs."""
        return self.cpus >= needs.cpus and self.memory_mb >= needs.memory_mb and (self.disk_gb == 0 or self.disk_gb >= needs.disk_gb)


def flavor_of(shown: Mapping[str, Any]) -> Flavor | None:
    """Return a flavor as Nova shows it; `None` if the answer is malformed."""
    numbers = [shown.get(name) for name in ("ram", "vcpus", "disk")]
    identifier = shown.get("id")
    if not isinstance(identifier, str) or not all(type(number) is int for number in numbers):
        return None
    memory_mb, cpus, disk_gb = (int(number or 0) for number in numbers)
    return Flavor(memory_mb, cpus, disk_gb, identifier)


def smallest(flavors: Iterable[Flavor | None], needs: Needs) -> Flavor | None:
    """Return the smallest flavor that fits; `None` if none does."""
    return min((flavor for flavor in flavors if flavor is not None and flavor.fits(needs)), default=None)


async def smallest_for(services: UserServices, question: Question, needs: Needs) -> Flavor | None:
    """Return the smallest flavor that the caller may use and that fits; `None` if none does.

    Raises:
        Problem: Nova refuses the list.
        Unreachable: Nova does not answer.
    """
    listed = await services.list(question, "compute", "/v2.1/flavors/detail", "flavors")
    return smallest(map(flavor_of, listed.items), needs)

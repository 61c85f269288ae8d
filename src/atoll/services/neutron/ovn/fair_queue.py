"""A bounded work queue that is fair between networks, and between the guests of a network.

Each guest, and all guests of a network together, have a bounded share of the workers and of the queue. Networks take turns, and so do the
guests of a network.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class QueueLimits:
    """Bounds on the numbers of queued items and of items in progress.

    Attributes:
        at_work: items in progress.
        at_work_per_network: items of one network in progress.
        at_work_per_guest: items of one guest in progress.
        waiting: items in the queue.
        waiting_per_network: items of one network in the queue.
        waiting_per_guest: items of one guest in the queue.
    """

    at_work: int = 64
    at_work_per_network: int = 8
    at_work_per_guest: int = 4
    waiting: int = 1024
    waiting_per_network: int = 64
    waiting_per_guest: int = 16


class Work(NamedTuple, Generic[T]):
    """An item of work, with the network and the guest that it belongs to.

    Attributes:
        network: the network's id.
        guest: the guest's address.
        item: the item.
    """

    network: str
    guest: str
    item: T


@dataclass
class _Guest(Generic[T]):
    waiting: deque[T] = field(default_factory=deque)
    at_work: int = 0


@dataclass
class _Network(Generic[T]):
    guests: OrderedDict[str, _Guest[T]] = field(default_factory=OrderedDict)
    waiting: int = 0
    at_work: int = 0


class FairQueue(Generic[T]):
    """A fair, bounded queue; its methods are thread-safe.

    Args:
        limits: the bounds.
    """

    def __init__(self, limits: QueueLimits) -> None:
        self._limits = limits
        self._networks: OrderedDict[str, _Network[T]] = OrderedDict()
        self._waiting = 0
        self._at_work = 0
        self._changed = threading.Condition()

    def put(self, work: Work[T]) -> Work[T] | None:
        """Queue an item, and displace another one if the queue is full.

        Returns:
            The item without a place: the new item, if its guest or network holds as many places as any other; else the newest item of the
            guest that holds most. `None` if all items have a place.
        """
        with self._changed:
            guest = self._guest(work)
            network = self._networks[work.network]
            refused = None
            if len(guest.waiting) >= self._limits.waiting_per_guest:
                refused = work
            elif network.waiting >= self._limits.waiting_per_network:
                refused = self._displace(work, work.network)
            elif self._waiting >= self._limits.waiting:
                refused = self._displace(work, max(self._networks, key=lambda name: self._networks[name].waiting))
            if refused is not work:
                guest.waiting.append(work.item)
                network.waiting += 1
                self._waiting += 1
                self._changed.notify()
            self._tidy(work.network, work.guest)
            return refused

    def take(self, timeout_s: float | None = None) -> Work[T] | None:
        """Wait for the next item that may be worked on; the caller must call `done` afterwards.

        Args:
            timeout_s: greatest number of seconds to wait; `None` means no limit.

        Returns:
            the item; `None` after the timeout.
        """
        with self._changed:
            found: Work[T] | None = None

            def look() -> bool:
                nonlocal found
                found = self._next()
                return found is not None

            self._changed.wait_for(look, timeout_s)
            return found

    def done(self, work: Work[T]) -> None:
        """Record that a worker has finished an item."""
        with self._changed:
            network = self._networks[work.network]
            network.guests[work.guest].at_work -= 1
            network.at_work -= 1
            self._at_work -= 1
            self._tidy(work.network, work.guest)
            self._changed.notify()

    def __len__(self) -> int:
        """Return the number of items that wait."""
        return self._waiting

    @property
    def busy(self) -> int:
        """Number of items in progress."""
        return self._at_work

    def _guest(self, work: Work[T]) -> _Guest[T]:
        return self._networks.setdefault(work.network, _Network()).guests.setdefault(work.guest, _Guest())

    def _displace(self, work: Work[T], name: str) -> Work[T]:
        """Return the item to displace: the newest of the network's guest with most places, or the new item if its guest has as many."""
        network = self._networks[name]
        own = self._networks[work.network]
        if name != work.network and own.waiting + 1 >= network.waiting:
            return work
        address = max(network.guests, key=lambda each: len(network.guests[each].waiting))
        guest = network.guests[address]
        if name == work.network and len(own.guests[work.guest].waiting) + 1 >= len(guest.waiting):
            return work
        displaced = Work(name, address, guest.waiting.pop())
        network.waiting -= 1
        self._waiting -= 1
        self._tidy(name, address)
        return displaced

    def _next(self) -> Work[T] | None:
        limits = self._limits
        if self._at_work >= limits.at_work:
            return None
        for name, network in self._networks.items():
            if not network.waiting or network.at_work >= limits.at_work_per_network:
                continue
            for address, guest in network.guests.items():
                if guest.waiting and guest.at_work < limits.at_work_per_guest:
                    guest.at_work += 1
                    network.at_work += 1
                    network.waiting -= 1
                    self._at_work += 1
                    self._waiting -= 1
                    network.guests.move_to_end(address)
                    self._networks.move_to_end(name)
                    return Work(name, address, guest.waiting.popleft())
        return None

    def _tidy(self, name: str, address: str) -> None:
        """Drop the state of a guest without items, and of a network without guests."""
        network = self._networks[name]
        guest = network.guests.get(address)
        if guest is not None and not guest.waiting and not guest.at_work:
            del network.guests[address]
        if not network.guests:
            del self._networks[name]

"""Network coordinates: an estimate of the round trip between any two sites, from a site's own round trips and its peers' coordinates.

The algorithm is Vivaldi (Dabek, Cox, Kaashoek, Morris: "Vivaldi: A Decentralized Network Coordinate System", SIGCOMM 2004), with two
dimensions and a height, which stands for the way from a site to the core of the network and back.
"""

from __future__ import annotations

import math
import random
import struct
from dataclasses import dataclass

_CORRECTION = 0.25
"""The fraction of the distance by which one measurement moves a coordinate (the paper's c_c)."""
_ERROR_WEIGHT = 0.25
"""The weight of one measurement in the estimate of the error (c_e)."""
_MIN_HEIGHT_MS = 0.01
_MAX_ERROR = 1.5
_MAX_MS = 30_000.0
"""The greatest value in milliseconds. No round trip on earth is longer; it also limits the effect of a hostile peer's coordinate."""
_FORMAT = struct.Struct("<4e")


@dataclass(frozen=True)
class Coordinate:
    """A place in the network, as coordinates in milliseconds of round trip.

    Attributes:
        x: the first dimension, in milliseconds.
        y: the second dimension, in milliseconds.
        height: the height in milliseconds, which every path to and from this place includes.
        error: the relative error of estimates from this place, from 1 (no measurement yet) down to 0.
    """

    SIZE = _FORMAT.size

    x: float = 0.0
    y: float = 0.0
    height: float = _MIN_HEIGHT_MS
    error: float = 1.0

    def distance(self, other: Coordinate) -> float:
        """Return the estimated round trip to another place, in milliseconds."""
        return math.hypot(self.x - other.x, self.y - other.y) + self.height + other.height

    def pack(self) -> bytes:
        """Return the coordinate as `SIZE` bytes, in half precision. The rounding error of 0.05 % is less than that of any measurement."""
        return _FORMAT.pack(self.x, self.y, self.height, self.error)

    @classmethod
    def unpack(cls, data: bytes) -> Coordinate:
        """Return the coordinate that `pack` wrote.

        Raises:
            ValueError: the bytes are not a valid coordinate.
        """
        if len(data) != cls.SIZE:
            raise ValueError(f"a coordinate has {cls.SIZE} bytes, not {len(data)}")
        x, y, height, error = _FORMAT.unpack(data)
        # A comparison with NaN is false.
        if not (abs(x) <= _MAX_MS and abs(y) <= _MAX_MS and 0 <= height <= _MAX_MS and 0 <= error <= _MAX_ERROR):
            raise ValueError("a coordinate is out of range")
        return cls(x, y, height, error)


class Vivaldi:
    """The coordinate of this site.

    Args:
        rng: source of the random direction in which the coordinates of two sites at the same place diverge.

    Attributes:
        coordinate: this site's place.
    """

    def __init__(self, rng: random.Random) -> None:
        self.coordinate = Coordinate()
        self._rng = rng

    def update(self, rtt_ms: float, remote: Coordinate) -> None:
        """Move this site's coordinate according to a measured round trip.

        Args:
            rtt_ms: the round trip to a peer, in milliseconds.
            remote: the peer's coordinate.
        """
        if not 0 < rtt_ms <= _MAX_MS:
            return
        here = self.coordinate
        distance = here.distance(remote)
        weight = here.error / max(here.error + remote.error, 1e-9)
        error = abs(distance - rtt_ms) / rtt_ms
        blend = _ERROR_WEIGHT * weight
        force = _CORRECTION * weight * (rtt_ms - distance)
        x, y, height = self._direction(remote)
        self.coordinate = Coordinate(
            _clamp(here.x + force * x, -_MAX_MS, _MAX_MS),
            _clamp(here.y + force * y, -_MAX_MS, _MAX_MS),
            _clamp(here.height + force * height, _MIN_HEIGHT_MS, _MAX_MS),
            _clamp(error * blend + here.error * (1 - blend), 0.0, _MAX_ERROR),
        )

    def _direction(self, remote: Coordinate) -> tuple[float, float, float]:
        """Return the unit vector from the peer to this site; the heights are added (section 5.4 of the paper)."""
        here = self.coordinate
        x, y, height = here.x - remote.x, here.y - remote.y, here.height + remote.height
        flat = math.hypot(x, y)
        if flat < 1e-6:
            angle = self._rng.uniform(0, 2 * math.pi)
            x, y, flat = math.cos(angle), math.sin(angle), 1.0
        length = flat + height
        return x / length, y / length, height / length


def _clamp(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)

"""The rates of the links to other sites, as transfers of images have measured them."""

from __future__ import annotations

from collections.abc import Callable

ASSUMED = 5_000_000.0
"""Bytes per second of a link that no transfer has measured yet."""

LEAST_BYTES = 1 << 20
"""Least number of bytes of a transfer from which the rate is measured: a smaller one mostly measures round trips."""

_WEIGHT = 0.5  # of the latest transfer


class LinkRates:
    """The bytes per second from each other site.

    Args:
        rtt_ms: returns the round trip to a site in milliseconds.
    """

    def __init__(self, rtt_ms: Callable[[str], float]) -> None:
        self._rtt_ms = rtt_ms
        self._rates: dict[str, float] = {}

    def note(self, site: str, count: int, seconds: float) -> None:
        """Update the rate of the link to a site after a transfer.

        Args:
            site: the site.
            count: bytes that arrived.
            seconds: the duration.
        """
        if count >= LEAST_BYTES and seconds > 0:
            rate = count / seconds
            self._rates[site] = _WEIGHT * rate + (1 - _WEIGHT) * self._rates.get(site, rate)

    def seconds(self, site: str, count: int) -> float:
        """Return the expected duration of a transfer of some bytes from a site."""
        return self._rtt_ms(site) / 1000 + count / self._rates.get(site, ASSUMED)

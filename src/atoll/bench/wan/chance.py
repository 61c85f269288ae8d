"""What chance explains: whether a loss that was measured can be the one that was asked for."""

from __future__ import annotations

from math import exp, lgamma, log

CONFIDENCE = 0.99


def likely(count: int, probability: float, confidence: float = CONFIDENCE) -> tuple[int, int]:
    """The range in which the number of losses falls with at least that confidence: the binomial distribution without its tails.

    Args:
        count: of packets.
        probability: that one is lost.
        confidence: of the range, 0 to 1.

    Returns:
        The least and the greatest number that are likely.
    """
    if probability <= 0 or probability >= 1:
        certain = count if probability >= 1 else 0
        return certain, certain
    tail = (1 - confidence) / 2
    below, least = 0.0, 0
    for lost in range(count + 1):
        below += _mass(lost, count, probability)
        if below <= tail:
            least = lost + 1
        if below >= 1 - tail:
            return least, lost
    return least, count


def _mass(lost: int, count: int, probability: float) -> float:
    """The binomial distribution, through logarithms: the factorials are too large."""
    ways = lgamma(count + 1) - lgamma(lost + 1) - lgamma(count - lost + 1)
    return exp(ways + lost * log(probability) + (count - lost) * log(1 - probability))

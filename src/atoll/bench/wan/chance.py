"""The range of numbers of lost packets that chance explains, for a comparison with the requested probability of loss."""

from __future__ import annotations

from math import exp, lgamma, log

CONFIDENCE = 0.99


def likely(count: int, probability: float, confidence: float = CONFIDENCE) -> tuple[int, int]:
    """Return the range in which the number of losses lies at a confidence level: the binomial distribution without its tails.

    Args:
        count: the number of packets.
        probability: the probability that a packet is lost.
        confidence: the confidence level, 0 to 1.

    Returns:
        The least and the greatest number in the range.
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
    """Return the binomial probability of `lost` losses, computed with logarithms because the factorials are too large."""
    ways = lgamma(count + 1) - lgamma(lost + 1) - lgamma(count - lost + 1)
    return exp(ways + lost * log(probability) + (count - lost) * log(1 - probability))

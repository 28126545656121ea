"""A share of the traffic by numbers of replicas, where nothing can weigh requests: one Service spreads them evenly."""

from __future__ import annotations


def replicas_for(percent: int, total: int, most: int) -> tuple[int, int]:
    """How many replicas the champion and the challenger need so that the challenger has about `percent` of all.

    Never fewer in all than there are now (`total`), for they may be needed, and at most `most`, unless there are more
    already. Of the pairs that come equally near the smallest is taken.
    """
    fewest = max(total, 2)
    pairs = [(whole - part, part) for whole in range(fewest, max(most, fewest) + 1) for part in range(1, whole)]
    return min(pairs, key=lambda pair: (abs(share_of(*pair) - percent), sum(pair)))


def share_of(champion: int, challenger: int) -> float:
    """Which percentage of evenly spread requests the challenger answers."""
    return 100.0 * challenger / (champion + challenger)

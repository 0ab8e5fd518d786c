"""Counts that chance alone would show: exact tests of many cells that are looked at together.

The routing view marks its cells by them, in Python and on the page. Both are exact, two-sided, and shared among all cells that are looked at together
(Bonferroni): of a whole panel without any effect, at most `LEVEL` would mark a cell at all.
Tokens of one text are not independent draws, so what is marked is a hint, not a proof.
"""

from __future__ import annotations

from math import lgamma

import numpy as np

LEVEL = 0.05  # of a whole panel


def uniform_band(tokens: int, share: float, comparisons: int = 1) -> tuple[int, int]:
    """Lowest and highest count that uniform routing gives for an expert, both included.

    Parameters
    ----------
    tokens
        T, draws.
    share
        Probability of one draw; 1 / (experts of the group) where each group has one winner.
    comparisons
        Cells looked at together; each side of each gets LEVEL / 2 / comparisons.
    """
    factorials = _log_factorials(tokens)
    count = np.arange(tokens + 1)
    chosen = factorials[tokens] - factorials[count] - factorials[tokens - count]
    mass = np.exp(chosen + count * np.log(share) + (tokens - count) * np.log1p(-share))
    tail = LEVEL / 2 / comparisons
    low = int(np.argmax(np.cumsum(mass) > tail))
    high = tokens - int(np.argmax(np.cumsum(mass[::-1]) > tail))
    return low, high


def beyond_others(
    count: np.ndarray, count_all: np.ndarray, tokens: int, tokens_all: int, comparisons: int
) -> np.ndarray:
    """Whether `tokens` drawn at random from `tokens_all` would rarely use an expert so often.

    Parameters
    ----------
    count, count_all
        Uses of each cell's expert among the chosen tokens and among all; same shape.

    Returns
    -------
    bool, same shape: the hypergeometric tail on the count's side is at most
    LEVEL / 2 / comparisons.
    """
    factorials = _log_factorials(tokens_all)

    def choose(total: int | np.ndarray, part: np.ndarray) -> np.ndarray:
        return factorials[total] - factorials[part] - factorials[total - part]

    result = np.zeros(count.shape, dtype=bool)
    known: dict[tuple[int, int], bool] = {}
    for place, (used, total) in enumerate(zip(count.ravel(), count_all.ravel(), strict=True)):
        key = (int(used), int(total))
        if key not in known:
            low, high = max(0, tokens - (tokens_all - key[1])), min(tokens, key[1])
            above = key[0] * tokens_all >= key[1] * tokens
            values = np.arange(key[0], high + 1) if above else np.arange(low, key[0] + 1)
            logs = choose(key[1], values) + choose(tokens_all - key[1], tokens - values)
            tail = np.exp(logs - choose(tokens_all, np.array(tokens))).sum()
            known[key] = bool(tail <= LEVEL / 2 / comparisons)
        result.flat[place] = known[key]
    return result


def _log_factorials(largest: int) -> np.ndarray:
    """ln n! for n = 0 … largest."""
    return np.array([lgamma(number + 1) for number in range(largest + 1)])

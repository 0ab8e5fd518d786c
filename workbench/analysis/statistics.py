"""Intervals over documents, chance levels and inequality measures; arrays in, arrays out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from math import comb

import numpy as np

MINIMUM_DOCUMENTS = 5  # fewer give no interval: resampling them says little about others
MINIMUM_EXPECTED = 5  # a count that chance alone would make smaller than this is flagged
DRAWS = 500


def resample(strata: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """How often each document is drawn, [draw, document], with replacement within its stratum."""
    random = np.random.default_rng(seed)
    weights = np.zeros((draws, len(strata)))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        even = np.full(len(members), 1 / len(members))
        weights[:, members] = random.multinomial(len(members), even, size=draws)
    return weights


def bootstrap(
    statistic: Callable[..., np.ndarray],
    *sums: np.ndarray,
    strata: Sequence[object] | None = None,
    confidence: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of a statistic, resampling documents.

    Tokens of one document are not independent of each other, documents are: so whole documents
    are drawn, with replacement, within each stratum (domain) where there are any.

    Parameters
    ----------
    statistic
        From totals [draw, …], one array for each of `sums`, to values [draw, …].
    sums
        What each document adds, [document, …].

    Returns
    -------
    low, high
        Of the statistic's shape; NaN where some stratum has fewer than `MINIMUM_DOCUMENTS`.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13. A percentile
    interval leans the way of the statistic's own bias, which entropies of few tokens have.
    """
    label = np.zeros(len(sums[0]), dtype=int) if strata is None else np.asarray(strata)
    if np.unique(label, return_counts=True)[1].min() < MINIMUM_DOCUMENTS:
        shape = statistic(*(part.sum(0, keepdims=True) for part in sums))[0].shape
        return np.full(shape, np.nan), np.full(shape, np.nan)
    weights = resample(label, draws, seed)
    values = statistic(*(np.tensordot(weights, part, 1) for part in sums))  # [draw, …]
    tail = (1 - confidence) / 2
    with warnings.catch_warnings():  # what is NaN in every draw has no interval
        warnings.filterwarnings("ignore", "All-NaN slice")
        low, high = np.nanquantile(values, (tail, 1 - tail), axis=0)
    return low, high


# -- how uneven ---------------------------------------------------------------------------------


def divided(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, NaN where below is 0."""
    above, below = np.broadcast_arrays(np.asarray(above, float), np.asarray(below, float))
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below != 0)


def entropy(share: np.ndarray) -> np.ndarray:
    """H = -Σ p ln p over the last axis, in nats; 0 ln 0 = 0."""
    return -(share * np.log(np.where(share > 0, share, 1))).sum(-1)


def gini(load: np.ndarray) -> np.ndarray:
    """Gini coefficient over the last axis: Σ_i Σ_j |x_i - x_j| / (2 n² mean). 0 is even."""
    ordered = np.sort(load, axis=-1)
    size = load.shape[-1]
    rank = 2 * np.arange(1, size + 1) - size - 1
    return divided((rank * ordered).sum(-1), size * ordered.sum(-1))


def variation(load: np.ndarray) -> np.ndarray:
    """Coefficient of variation over the last axis: standard deviation (of n) / mean."""
    return divided(load.std(-1), load.mean(-1))


def violation(load: np.ndarray) -> np.ndarray:
    """MaxVio over the last axis: max / mean - 1."""
    return divided(load.max(-1), load.mean(-1)) - 1


# -- chance levels ------------------------------------------------------------------------------


def hypergeometric(total: int, marked: int, drawn: int) -> np.ndarray:
    """[0 … drawn]: probability that so many of `drawn` out of `total` are among the `marked`."""
    return np.array(
        [comb(marked, hit) * comb(total - marked, drawn - hit) for hit in range(drawn + 1)]
    ) / comb(total, drawn)


@cache
def overlap_by_chance(num_experts: int, num_groups: int, num_experts_per_tok: int) -> np.ndarray:
    """[0 … k]: probability that two independent uniform choices share so many experts.

    Each takes k / M experts of each of M groups without replacement; the groups' hypergeometric
    distributions are convolved.
    """
    size, slots = num_experts // num_groups, num_experts_per_tok // num_groups
    total = np.ones(1)
    for _ in range(num_groups):
        total = np.convolve(total, hypergeometric(size, slots, slots))
    return total


def unused_by_chance(
    num_experts: int, num_groups: int, num_experts_per_tok: int, tokens: int
) -> np.ndarray:
    """[0 … E]: probability that uniform routing leaves so many experts unused after T tokens.

    Exact for independent tokens: in each group a Markov chain of the number of experts used so
    far, run for T tokens; then the groups are convolved.
    """
    size, slots = num_experts // num_groups, num_experts_per_tok // num_groups
    step = np.zeros((size + 1, size + 1))  # from so many used to so many
    for used in range(size + 1):
        for new, chance in enumerate(hypergeometric(size, size - used, slots)):
            if used + new <= size:
                step[used, used + new] += chance
    in_group = np.linalg.matrix_power(step, tokens)[0][::-1]  # [unused]
    total = np.ones(1)
    for _ in range(num_groups):
        total = np.convolve(total, in_group)
    return total


def uniform_loads(
    num_experts: int,
    num_groups: int,
    num_experts_per_tok: int,
    tokens: int,
    draws: int = 200,
    seed: int = 0,
) -> np.ndarray:
    """[draw, expert]: loads under uniform routing of T independent tokens.

    A multinomial draw per group, which is exact for one expert of each group a token. Several of
    a group are never the same one, which makes loads more even than drawing with replacement: the
    deviations are narrowed by √((n - s) / (n - 1)) for s of n experts, so that means, variances and
    covariances are exact; such loads are not whole numbers.
    """
    size, slots = num_experts // num_groups, num_experts_per_tok // num_groups
    random = np.random.default_rng(seed)
    even = np.full(size, 1 / size)
    loads = random.multinomial(tokens * slots, even, size=(draws, num_groups))
    mean = tokens * slots / size
    narrowed = mean + (loads - mean) * np.sqrt((size - slots) / max(1, size - 1))
    return narrowed.reshape(draws, num_experts)


def uniform_choices(
    num_experts: int, num_experts_per_tok: int, shape: tuple[int, ...], seed: int = 0
) -> np.ndarray:
    """[*shape, k]: k different experts for each token, every set equally likely."""
    random = np.random.default_rng(seed)
    keys = random.random((*shape, num_experts), dtype=np.float32)
    return np.argpartition(keys, num_experts_per_tok - 1, axis=-1)[..., :num_experts_per_tok]

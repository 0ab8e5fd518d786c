"""One layer's router as arrays: what measures of traces and the routing view both work out.

`probability` is [token, expert], the softmax over all experts before selection; `chosen` is
[token, slot], the ids of the experts that were used; experts of a group are neighbours.
"""

from __future__ import annotations

import numpy as np


def uses(chosen: np.ndarray, num_experts: int) -> np.ndarray:
    """[expert]: tokens that use each expert, N(e)."""
    return np.bincount(chosen.ravel(), minlength=num_experts)


def is_used(chosen: np.ndarray, num_experts: int) -> np.ndarray:
    """[token, expert] bool."""
    used = np.zeros((len(chosen), num_experts), dtype=bool)
    np.put_along_axis(used, chosen, True, axis=-1)
    return used


def global_choice(probability: np.ndarray, slots: int) -> np.ndarray:
    """[token, slot]: the k most probable of all experts, whatever their group. Ties: lowest."""
    return np.argsort(-probability, axis=-1, kind="stable")[:, :slots]


def among(chosen: np.ndarray, others: np.ndarray) -> np.ndarray:
    """[token, slot] bool: which experts of one choice, S, are in another, S′, of the same token.

    Its mean over slots is |S ∩ S′| / k.
    """
    return (chosen[:, :, None] == others[:, None, :]).any(-1)


def margins(probability: np.ndarray, chosen: np.ndarray, groups: int) -> np.ndarray:
    """[token, slot]: each chosen expert's lead over the best expert of its group that was not.

    Negative only where the recorded logits were rounded after the choice; NaN where every expert
    of the group is used.
    """
    _, loser = boundary(probability, chosen, groups)
    group = chosen // (probability.shape[-1] // groups)
    best = np.take_along_axis(_of(probability, loser), group, -1)
    return np.take_along_axis(probability, chosen, -1) - best


def boundary_margins(probability: np.ndarray, chosen: np.ndarray, groups: int) -> np.ndarray:
    """[token, group]: the last winner's lead over the best loser; NaN where one is missing."""
    winner, loser = boundary(probability, chosen, groups)
    return _of(probability, winner) - _of(probability, loser)


def boundary(
    probability: np.ndarray, chosen: np.ndarray, groups: int
) -> tuple[np.ndarray, np.ndarray]:
    """[token, group] each: ids of the last winner and of the best loser, -1 where there is none."""
    tokens, experts = probability.shape
    shape = (tokens, groups, experts // groups)  # [token, group, member]
    used, grouped = is_used(chosen, experts).reshape(shape), probability.reshape(shape)
    first = np.arange(groups) * shape[-1]
    winner = np.where(used, grouped, np.inf).argmin(-1) + first
    loser = np.where(used, -np.inf, grouped).argmax(-1) + first
    return np.where(used.any(-1), winner, -1), np.where(used.all(-1), -1, loser)


def pair_factor(num_experts: int, groups: int, slots: int) -> np.ndarray:
    """[expert, expert]: what independence, N(i) N(j) / T, is multiplied by to expect a pair.

    1 across groups. Within a group of n experts of which a token uses s, a pair is rarer:
    s(s-1) / (n(n-1)) · (n/s)², and impossible (0) at s = 1.
    """
    size, winners = num_experts // groups, slots // groups
    group = np.arange(num_experts) // size
    within = (winners - 1) * size / (winners * max(1, size - 1))
    return np.where(group[:, None] == group, within, 1.0)


def _of(probability: np.ndarray, expert: np.ndarray) -> np.ndarray:
    """Probabilities of the experts, NaN for -1."""
    found = np.take_along_axis(probability, np.maximum(expert, 0), -1)
    return np.where(expert < 0, np.nan, found)

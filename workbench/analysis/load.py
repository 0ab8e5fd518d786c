"""How tokens are spread over experts. T tokens, E experts, k chosen per token, M groups."""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.analysis.documents import Source, documents
from workbench.analysis.selection import Where
from workbench.analysis.statistics import (
    MINIMUM_EXPECTED,
    bootstrap,
    divided,
    entropy,
    gini,
    uniform_loads,
    unused_by_chance,
    variation,
    violation,
)


def expert_load(source: Source, where: Where = None, confidence: float = 0.95) -> pd.DataFrame:
    """How much each expert is used, per layer.

    Parameters
    ----------
    source
        A trace, several traces, or a corpus; their tokens are counted together.
    where
        Which tokens; see `token_mask`.

    Returns
    -------
    One row per (layer, expert): group; count N, tokens that use the expert; load_share f = N / (T k);
    load_ratio = f E, whose chance level is 1, with its interval over documents load_ratio_low and
    _high (NaN for fewer than 5 documents); weight_share, the share by routing weight (NaN where no
    weights were recorded); unused_by_chance (1 - 1/(E/M))^T, the probability that uniform routing
    within the group leaves the expert unused after T tokens (1 - k/E in general); enough, whether
    uniform routing would give the expert at least 5 tokens: without it a row says little.

    In a MoGE model the groups' loads are equal by construction: that is no finding.

    Source: the load f of Fedus et al., Switch Transformers (arXiv 2101.03961), equation 5, divided by
    k.
    """
    found = documents(source, where=where)
    count = found.per_document("count")  # [document, layer, expert]
    experts, slots, tokens = found.num_experts, found.num_experts_per_tok, found.tokens.sum()

    def ratio(load: np.ndarray) -> np.ndarray:
        return divided(load, load.sum(-1, keepdims=True)) * experts

    total = count.sum(0)
    low, high = bootstrap(ratio, count, confidence=confidence)
    weight = np.full(total.shape, np.nan)
    if found.has("weight"):
        weight = found.per_document("weight").sum(0)
        weight = divided(weight, weight.sum(-1, keepdims=True))
    return pd.DataFrame(
        {
            "layer": np.repeat(np.arange(len(total)), experts),
            "expert": np.tile(np.arange(experts), len(total)),
            "group": np.tile(found.group_of(), len(total)),
            "count": total.ravel().astype(int),
            "load_share": (total / (tokens * slots)).ravel(),
            "load_ratio": (total / (tokens * slots) * experts).ravel(),
            "load_ratio_low": low.ravel(),
            "load_ratio_high": high.ravel(),
            "weight_share": weight.ravel(),
            "unused_by_chance": (1 - slots / experts) ** tokens,
            "enough": bool(tokens * slots / experts >= MINIMUM_EXPECTED),
        }
    )


MEASURES = {
    "load_entropy": lambda load: (
        entropy(divided(load, load.sum(-1, keepdims=True))) / np.log(load.shape[-1])
    ),
    "effective_experts": lambda load: np.exp(entropy(divided(load, load.sum(-1, keepdims=True)))),
    "variation": variation,
    "gini": gini,
    "max_violation": violation,
}


def load_balance(source: Source, where: Where = None, confidence: float = 0.95) -> pd.DataFrame:
    """How unevenly the experts of a layer are used, beside chance and a global top-k.

    Returns
    -------
    One row per (layer, measure): value; low, high, its interval over documents; chance and
    chance_95, mean and 95 % quantile under uniform routing of as many independent tokens (few
    tokens are never even); global_top_k, the value if each token used its k most probable experts
    whatever their group (NaN where no router_logits were recorded).

    Measures, with f the load shares of E experts: load_entropy H(f) / ln E; effective_experts
    exp(H(f)); variation, standard deviation / mean; gini Σ Σ |f_i - f_j| / (2 E); max_violation
    max / mean - 1 (MaxVio: Wang et al., arXiv 2408.15664).

    All are over experts. Over groups they would be perfect in a MoGE model by construction; see
    `imbalance_score`.
    """
    found = documents(source, where=where)
    count = found.per_document("count")
    uniform = uniform_loads(
        found.num_experts, found.num_groups, found.num_experts_per_tok, int(found.tokens.sum())
    )
    everywhere = found.per_document("global_count").sum(0) if found.has("global_count") else None
    frames = []
    for name, measure in MEASURES.items():
        value = measure(count.sum(0))
        low, high = bootstrap(measure, count, confidence=confidence)
        chance = measure(uniform)
        frames.append(
            pd.DataFrame(
                {
                    "layer": np.arange(len(value)),
                    "measure": name,
                    "value": value,
                    "low": low,
                    "high": high,
                    "chance": chance.mean(),
                    "chance_95": np.quantile(chance, 0.95),
                    "global_top_k": np.nan if everywhere is None else measure(everywhere),
                }
            )
        )
    return pd.concat(frames).sort_values("layer", kind="stable", ignore_index=True)


def group_profile(source: Source, where: Where = None) -> pd.DataFrame:
    """What can differ between the groups of a MoGE layer, whose token counts cannot.

    Returns
    -------
    One row per (layer, group): load_entropy H(f) / ln(E/M) of the loads within the group, with
    entropy_by_chance under uniform routing of as many tokens; effective_experts exp(H), at most
    E/M; weight_share, the group's share of all routing weight, and mass, its share of the router's
    probability, Σ p over the group, mean over tokens, both with chance 1/M; global_top_k_share, the
    group's share of all choices if each token used its k most probable experts, chance 1/M.

    Columns that need weights or router_logits are NaN where none were recorded. Every group gets
    the same number of tokens by construction, so that number is not here.

    Source: this package's, for the groups of arXiv 2505.21411.
    """
    found = documents(source, where=where)
    groups = found.num_groups

    def grouped(name: str) -> np.ndarray | None:
        """[layer, group, member]"""
        if not found.has(name):
            return None
        total = found.per_document(name).sum(0)
        return total.reshape(len(total), groups, -1)

    def share(load: np.ndarray | None) -> np.ndarray | float:
        if load is None:
            return np.nan
        group = load.sum(-1)
        return divided(group, group.sum(-1, keepdims=True)).ravel()

    count = grouped("count")
    within = entropy(divided(count, count.sum(-1, keepdims=True)))  # [layer, group]
    size, slots = count.shape[-1], found.num_experts_per_tok // groups
    uniform = uniform_loads(size, 1, slots, int(found.tokens.sum()))
    by_chance = entropy(uniform / uniform.sum(-1, keepdims=True)).mean() / np.log(max(2, size))
    return pd.DataFrame(
        {
            "layer": np.repeat(np.arange(len(count)), groups),
            "group": np.tile(np.arange(groups), len(count)),
            "load_entropy": within.ravel() / np.log(max(2, size)),
            "entropy_by_chance": by_chance,
            "effective_experts": np.exp(within).ravel(),
            "weight_share": share(grouped("weight")),
            "mass": share(grouped("probability")),
            "global_top_k_share": share(grouped("global_count")),
            "chance": 1 / groups,
        }
    )


def never_used(source: Source, where: Where = None) -> pd.DataFrame:
    """How many experts no token used, beside what uniform routing leaves unused.

    Returns
    -------
    One row per layer: tokens; unused, experts with no token; unused_share, of E;
    unused_share_by_chance (1 - k/E)^T, in a MoGE model (1 - 1/(E/M))^T; p_value, the probability
    that uniform routing of T independent tokens leaves at least so many unused (exact); enough,
    whether chance leaves less than half an expert unused: only then can an unused expert be called
    unused rather than not yet seen.

    Tokens of a text are not independent, so the true chance level is higher than this one: a small
    p_value says that routing is not uniform and independent, and no more.

    Source: the coupon collector's problem, group by group.
    """
    found = documents(source, where=where)
    experts, slots, tokens = found.num_experts, found.num_experts_per_tok, int(found.tokens.sum())
    unused = (found.per_document("count").sum(0) == 0).sum(-1)  # [layer]
    chance = unused_by_chance(experts, found.num_groups, slots, tokens)
    at_least = np.minimum(1, chance[::-1].cumsum()[::-1])
    share = (1 - slots / experts) ** tokens
    return pd.DataFrame(
        {
            "layer": np.arange(len(unused)),
            "tokens": tokens,
            "unused": unused,
            "unused_share": unused / experts,
            "unused_share_by_chance": share,
            "p_value": at_least[unused],
            "enough": share * experts < 0.5,
        }
    )

"""Which experts of a layer are used together."""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.analysis.documents import Source, documents
from workbench.analysis.router import pair_factor
from workbench.analysis.selection import Where
from workbench.analysis.statistics import MINIMUM_EXPECTED, divided
from workbench.errors import TraceError


def expert_coactivation(
    source: Source,
    layer: int | None = None,
    where: Where = None,
    domain: str | None = None,
) -> pd.DataFrame:
    """How often two experts of a layer are used by the same token, over all pairs of the k chosen.

    Parameters
    ----------
    layer
        Only this one; all by default.
    domain
        Of a corpus, only this domain.

    Returns
    -------
    One row per (layer, expert, partner) with partner ≠ expert, both orders: group and
    partner_group; possible, False for two experts of one group of which a token can use only one;
    count N(i,j); probability N(i,j) / T (figure 8 of arXiv 2505.21411); conditional
    P(j|i) = N(i,j) / N(i); expected, the count if groups chose independently of each other with
    the same loads; lift N(i,j) / expected, chance level 1; enough, whether expected is at least 5.

    expected is N(i) N(j) / T across groups. Within a group of which s experts are used it is
    smaller by s(s-1)/(n(n-1)) · (n/s)², n experts in the group: 0 at s = 1. Where a pair is
    impossible, count, probability, conditional, expected and lift are NaN: it is no zero that was
    measured.

    The often copied script of OLMoE counts only neighbouring ranks, 7 of the 28 pairs at k = 8.
    """
    found = documents(source, where=where)
    if layer is not None and not 0 <= layer < found.num_moe_layers:
        raise TraceError(f"layer {layer} is not there; there are {found.num_moe_layers}.")
    together = found.coactivation(domain)  # [layer, expert, expert]
    tokens = float(found.tokens[found.in_domain(domain)].sum())
    experts, group = found.num_experts, found.group_of()
    factor = pair_factor(experts, found.num_groups, found.num_experts_per_tok)
    possible = factor > 0
    i, j = np.nonzero(~np.eye(experts, dtype=bool))
    frames = []
    for number in range(found.num_moe_layers) if layer is None else [layer]:
        used = together[number].diagonal()
        count = np.where(possible, together[number], np.nan)
        expected = np.where(possible, factor * used[:, None] * used / max(1.0, tokens), np.nan)
        frames.append(
            pd.DataFrame(
                {
                    "layer": number,
                    "expert": i,
                    "partner": j,
                    "group": group[i],
                    "partner_group": group[j],
                    "possible": possible[i, j],
                    "count": count[i, j],
                    "probability": (count / max(1.0, tokens))[i, j],
                    "conditional": divided(count, used[:, None])[i, j],
                    "expected": expected[i, j],
                    "lift": divided(count, expected)[i, j],
                    "enough": (expected >= MINIMUM_EXPECTED)[i, j],
                }
            )
        )
    return pd.concat(frames, ignore_index=True)

"""Which experts of a layer are used together."""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.analysis.documents import Source, documents
from workbench.analysis.router import pair_factor
from workbench.analysis.selection import Where
from workbench.analysis.statistics import MINIMUM_DOCUMENTS, MINIMUM_EXPECTED, bootstrap, divided
from workbench.errors import TraceError


def expert_coactivation(
    source: Source,
    layer: int | None = None,
    where: Where = None,
    domain: str | None = None,
    confidence: float = 0.95,
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
    the same loads; lift N(i,j) / expected, chance level 1, with its interval over documents lift_low
    and lift_high (NaN for fewer than 5, and for a corpus, which keeps pairs by domain only); enough,
    whether expected is at least 5: below it a lift says little.

    expected is N(i) N(j) / T across groups. Within a group of which s experts are used it is
    smaller by s(s-1)/(n(n-1)) · (n/s)², n experts in the group: 0 at s = 1. Where a pair is
    impossible, count, probability, conditional, expected and lift are NaN: it is no zero that was
    measured.

    Source: co-activation is OLMoE's (arXiv 2409.02060, section 5.2); lift and groups are added here.
    The often copied script of OLMoE counts only neighbouring ranks, 7 of the 28 pairs at k = 8.
    """
    found = documents(source, where=where)
    if layer is not None and not 0 <= layer < found.num_moe_layers:
        raise TraceError(f"there is no layer {layer}; there are {found.num_moe_layers}.")
    together = found.coactivation(domain)  # [layer, expert, expert]
    tokens = float(found.tokens[found.in_domain(domain)].sum())
    experts, group = found.num_experts, found.group_of()
    factor = pair_factor(experts, found.num_groups, found.num_experts_per_tok)
    possible = factor > 0
    i, j = np.nonzero(~np.eye(experts, dtype=bool))
    frames = []
    sizes = found.tokens[found.in_domain(domain)].astype(float)  # [document]

    def lift(pairs: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """[draw, expert, partner]"""
        used = np.diagonal(pairs, axis1=1, axis2=2)  # [draw, expert]
        independent = used[:, :, None] * used[:, None, :] / np.maximum(1, tokens)[:, None, None]
        return divided(np.where(possible, pairs, np.nan), factor * independent)

    for number in range(found.num_moe_layers) if layer is None else [layer]:
        used = together[number].diagonal()
        count = np.where(possible, together[number], np.nan)
        expected = np.where(possible, factor * used[:, None] * used / max(1.0, tokens), np.nan)
        low = high = np.full(count.shape, np.nan)
        if len(sizes) >= MINIMUM_DOCUMENTS:
            by_document = found.coactivation_per_document(number, domain)
            if by_document is not None:
                low, high = bootstrap(lift, by_document, sizes, confidence=confidence)
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
                    "lift_low": low[i, j],
                    "lift_high": high[i, j],
                    "enough": (expected >= MINIMUM_EXPECTED)[i, j],
                }
            )
        )
    return pd.concat(frames, ignore_index=True)

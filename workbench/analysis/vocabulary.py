"""Whether experts belong to certain tokens, counted so that rare tokens prove nothing."""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.analysis.documents import Source, documents
from workbench.analysis.selection import Where
from workbench.analysis.statistics import divided
from workbench.errors import TraceError

MINIMUM_OCCURRENCES = 10


def vocabulary_specialisation(
    source: Source, where: Where = None, minimum: int = MINIMUM_OCCURRENCES
) -> pd.DataFrame:
    """How exclusively an expert's tokens are its own: is knowing the token knowing the expert?

    Over token types x that occur at least `minimum` times, N(x,e) of their N(x) occurrences using
    expert e:

        raw(e) = Σ_x N(x,e) · N(x,e)/N(x)  /  Σ_x N(x,e)

    the share N(x,e)/N(x) that a token of the expert sees on average, weighted by count. Shuffling
    the tokens' labels over the occurrences leaves N(x) and N(e) as they are and makes N(x,e)
    hypergeometric; so its mean is known exactly, with T = Σ N(x), N(e) = Σ_x N(x,e) and
    p = N(e) / T:

        shuffled(e) = Σ_x [ p (1-p) (T - N(x)) / (T - 1) + N(x) p² ]  /  N(e)

    Returns
    -------
    One row per (layer, expert): group; types and occurrences that were counted, and left_out, the
    share of all tokens that were of rarer types; count N(e); raw; shuffled; specialisation =
    raw - shuffled, whose chance level is 0 (NaN for an expert that is never used).

    Raises
    ------
    TraceError
        If no type occurs so often.

    A type seen once is 100 % specialised whatever the router does; an average over types that
    lets such types in measures how rare words are. Source of the ratio: OLMoE, arXiv 2409.02060,
    section 5.4.
    """
    found = documents(source, where=where)
    ids, _, occurrences, counts = _vocabulary(found, minimum)
    total = float(occurrences.sum())
    size = occurrences[:, None, None].astype(float)  # [type, 1, 1]
    used = counts.sum(0).astype(float)  # [layer, expert]
    raw = divided((counts**2 / size).sum(0), used)
    p = used / total
    spread = (total - occurrences).sum() / max(1.0, total - 1)
    shuffled = divided(p * (1 - p) * spread + total * p**2, used)
    layers, experts = used.shape
    return pd.DataFrame(
        {
            "layer": np.repeat(np.arange(layers), experts),
            "expert": np.tile(np.arange(experts), layers),
            "group": np.tile(found.group_of(), layers),
            "types": len(ids),
            "occurrences": int(total),
            "left_out": 1 - total / found.tokens.sum(),
            "count": used.ravel().astype(int),
            "raw": raw.ravel(),
            "shuffled": shuffled.ravel(),
            "specialisation": (raw - shuffled).ravel(),
        }
    )


def expert_vocabulary(
    source: Source,
    layer: int,
    expert: int,
    where: Where = None,
    minimum: int = MINIMUM_OCCURRENCES,
    top: int | None = 20,
) -> pd.DataFrame:
    """The tokens that use one expert most, against how often all tokens use it.

    Returns
    -------
    At most `top` rows, largest lift first: token_id; piece; count N(x,e); occurrences N(x); share
    N(x,e) / N(x); expected, the expert's share of all counted tokens (the chance level of share);
    lift log2 of share / expected, with +0.5 on the count and +1 on the occurrences; deviations, how
    many binomial standard deviations share is from expected (occurrences are not independent: read
    it as an order, not as a probability).

    Source: OLMoE, arXiv 2409.02060, section 5.4.
    """
    found = documents(source, where=where)
    if not 0 <= layer < found.num_moe_layers or not 0 <= expert < found.num_experts:
        raise TraceError(
            f"there is no expert {expert} of layer {layer}; there are {found.num_moe_layers} layers "
            f"of {found.num_experts} experts, counted from 0."
        )
    ids, pieces, occurrences, counts = _vocabulary(found, minimum)
    count = counts[:, layer, expert]
    expected = count.sum() / occurrences.sum()
    share = count / occurrences
    deviation = np.sqrt(expected * (1 - expected) / occurrences)
    lift = np.log2((count + 0.5) / (occurrences + 1) / max(expected, 0.5 / occurrences.sum()))
    frame = pd.DataFrame(
        {
            "token_id": ids,
            "piece": pieces,
            "count": count,
            "occurrences": occurrences,
            "share": share,
            "expected": expected,
            "lift": lift,
            "deviations": divided(share - expected, deviation),
        }
    )
    return frame.sort_values(["lift", "count"], ascending=False, ignore_index=True).head(top)


def _vocabulary(found, minimum: int) -> tuple[np.ndarray, list[str], np.ndarray, np.ndarray]:
    if minimum < 2:
        raise TraceError(
            f"minimum is {minimum}; expected 2 or more: a type seen once always goes to one set of "
            "experts, whatever the router does."
        )
    ids, pieces, occurrences, counts = found.vocabulary(minimum)
    if not len(ids):
        raise TraceError(
            f"no token occurs {minimum} times in {int(found.tokens.sum())} tokens; pass more traces "
            "or a smaller minimum."
        )
    return ids, pieces, occurrences, counts

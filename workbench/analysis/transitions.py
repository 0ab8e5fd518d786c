"""From the experts of one layer to those of the next."""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.analysis.documents import Source, documents
from workbench.analysis.selection import Where
from workbench.analysis.statistics import MINIMUM_EXPECTED, divided
from workbench.analysis.tallies import PAIRS
from workbench.errors import TraceError


def expert_transitions(
    source: Source,
    pairs: str = "weighted",
    layer: int | None = None,
    where: Where = None,
    domain: str | None = None,
) -> pd.DataFrame:
    """Which experts of layer l + 1 the tokens of an expert of layer l go to.

    Parameters
    ----------
    pairs
        Which experts of a token are paired: "weighted", all k × k pairs, each by w·w′, the routing
        weights of the two; "counted", all k × k pairs, each as 1 (needs no weights); "top1", only
        the expert of largest weight with the one of the next layer.
    layer
        Only from this layer to the next; all by default.

    Returns
    -------
    One row per (layer, expert, next_expert): pairs, as given; amount A(e,e′), the sum over tokens;
    probability A(e,e′) / Σ A(e,·), NaN for an expert that is never used; chance, the
    probability if the two layers chose independently, Σ A(·,e′) / Σ A; lift probability / chance,
    chance level 1; enough, whether at least 5 pairs of this kind are expected by chance
    (unweighted; for "weighted" judged by the mean amount of a pair).

    Raises
    ------
    TraceError
        For another `pairs`; for weights that were not recorded; for one layer of experts alone.

    Source: after OLMoE (arXiv 2409.02060); its often copied script pairs rank r with rank r only.
    """
    if pairs not in PAIRS:
        raise TraceError(f"pairs is {pairs!r}; expected one of {', '.join(map(repr, PAIRS))}.")
    found = documents(source, where=where)
    steps = found.num_moe_layers - 1
    if steps < 1:
        raise TraceError(
            "there is no step from a layer to the next: only one layer with experts was recorded. "
            "Measure a model with two or more."
        )
    if layer is not None and not 0 <= layer < steps:
        raise TraceError(
            f"there is no step from layer {layer} to the next; steps start at layers 0 to "
            f"{steps - 1}."
        )
    amount = found.transitions(pairs, domain)  # [layer - 1, expert, next expert]
    tokens = float(found.tokens[found.in_domain(domain)].sum())
    experts = found.num_experts
    of_token = 1 if pairs == "top1" else found.num_experts_per_tok**2
    frames = []
    for number in range(steps) if layer is None else [layer]:
        table = amount[number]
        total = table.sum()
        chance = divided(table.sum(0), total)  # [next expert]
        probability = divided(table, table.sum(1, keepdims=True))
        expected = divided(table.sum(1, keepdims=True), total) * chance * tokens * of_token
        frames.append(
            pd.DataFrame(
                {
                    "layer": number,
                    "expert": np.repeat(np.arange(experts), experts),
                    "next_expert": np.tile(np.arange(experts), experts),
                    "pairs": pairs,
                    "amount": table.ravel(),
                    "probability": probability.ravel(),
                    "chance": np.tile(chance, experts),
                    "lift": divided(probability, np.broadcast_to(chance, table.shape)).ravel(),
                    "enough": (expected >= MINIMUM_EXPECTED).ravel(),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)

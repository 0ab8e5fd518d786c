"""How evenly tokens fall on devices: the score that MoGE brings to zero by construction."""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.analysis import tallies
from workbench.analysis.documents import Source, documents
from workbench.analysis.selection import Where
from workbench.analysis.statistics import divided, uniform_choices
from workbench.errors import TraceError
from workbench.traces.documents import BATCH


def uniform_imbalance(
    num_experts: int = 64,
    num_experts_per_tok: int = 8,
    devices: int = 8,
    batch: int = BATCH,
    draws: int = 20_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Distribution of the imbalance score when each token takes k of E experts at random.

    IS(X) = (max_i T_i - min_i T_i) / |X|, with T_i the token-expert pairs of batch X that fall on
    device i; devices hold contiguous experts (arXiv 2505.21411, equation 3 and figure 2b).

    Returns
    -------
    One row per score that can be: score, probability (of `draws` batches).

    This is the chance level of the score of a plain top-k.
    """
    _check(num_experts, devices, batch)
    histogram = np.zeros(batch * num_experts_per_tok + 1)
    for start in range(0, draws, 1000):  # a thousand batches at a time are 4 MB of choices
        shape = (min(1000, draws - start), batch)
        chosen = uniform_choices(num_experts, num_experts_per_tok, shape, seed + start)
        found = tallies.scores(chosen, num_experts, devices)
        histogram += np.bincount(found, minlength=len(histogram))
    return pd.DataFrame(
        {"score": np.arange(len(histogram)) / batch, "probability": histogram / draws}
    )


def imbalance_distribution(
    source: Source,
    where: Where = None,
    batch: int = BATCH,
    devices: int | None = None,
    draws: int = 20_000,
) -> pd.DataFrame:
    """How often batches of consecutive tokens have which imbalance score, as routed and otherwise.

    IS(X) as in `uniform_imbalance`; batches are cut from each document, a rest is left out.

    Parameters
    ----------
    devices
        Each holds E / devices contiguous experts; by default as many as groups (as experts per
        token where there are no groups).

    Returns
    -------
    One row per (layer, routing, score): batches, probability (NaN where no document has a whole
    batch). Routings: "grouped" (without groups "as_routed"), what the model did; "global_top_k",
    what the k most probable experts of each token would have given (left out where no router_logits
    were recorded); "uniform", the chance level of a plain top-k: `draws` batches of k random
    experts.

    Source: arXiv 2505.21411, equation 3 and figure 2b.
    """
    found = documents(source, where=where)
    grouped = found.num_groups > 1
    devices = devices or (found.num_groups if grouped else found.num_experts_per_tok)
    _check(found.num_experts, devices, batch)
    histograms = {"grouped" if grouped else "as_routed": found.imbalance(batch, devices, False)}
    if found.has("global_count"):
        histograms["global_top_k"] = found.imbalance(batch, devices, True)
    uniform = uniform_imbalance(
        found.num_experts, found.num_experts_per_tok, devices, batch, draws
    )["probability"].to_numpy()
    histograms["uniform"] = np.tile(uniform * draws, (found.num_moe_layers, 1))
    scores = np.arange(len(uniform)) / batch
    frames = [
        pd.DataFrame(
            {
                "layer": layer,
                "routing": routing,
                "score": scores,
                "batches": histogram[layer].round().astype(int),
                "probability": divided(histogram[layer], histogram[layer].sum()),
            }
        )
        for layer in range(found.num_moe_layers)
        for routing, histogram in histograms.items()
    ]
    return pd.concat(frames, ignore_index=True)


def imbalance_score(
    source: Source,
    where: Where = None,
    batch: int = BATCH,
    devices: int | None = None,
    draws: int = 20_000,
) -> pd.DataFrame:
    """The imbalance score of batches of consecutive tokens, as routed and as a global top-k.

    Parameters as in `imbalance_distribution`, which this sums up.

    Returns
    -------
    One row per (layer, routing): batches; mean, median and quantile_95 of the score (NaN without a
    whole batch); by_construction, whether the value could not have been any other: "grouped" is 0
    in a MoGE model with a group, or some, per device.

    Consecutive tokens resemble each other, so a global top-k is usually worse than chance here.

    Source: arXiv 2505.21411, equation 3.
    """
    frame = imbalance_distribution(source, where, batch, devices, draws)
    found = documents(source, where=where)
    whole = devices is None or found.num_groups % devices == 0
    rows = []
    for (layer, routing), part in frame.groupby(["layer", "routing"], sort=False):
        score, chance = part["score"].to_numpy(), part["probability"].to_numpy()
        below = chance.cumsum()
        some = not np.isnan(below[-1])
        rows.append(
            {
                "layer": layer,
                "routing": routing,
                "batches": part["batches"].sum(),
                "mean": chance @ score,
                "median": score[np.searchsorted(below, 0.5 - 1e-9)] if some else np.nan,
                "quantile_95": score[np.searchsorted(below, 0.95 - 1e-9)] if some else np.nan,
                "by_construction": routing == "grouped" and whole,
            }
        )
    return pd.DataFrame(rows)


def _check(experts: int, devices: int, batch: int) -> None:
    if devices < 1 or experts % devices:
        raise TraceError(
            f"{experts} experts cannot be spread over {devices} devices evenly; choose a divisor."
        )
    if batch < 1:
        raise TraceError(f"batch is {batch}; expected 1 token or more.")

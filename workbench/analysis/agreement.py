"""Whether two runs of the same text choose the same experts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.analysis import tallies
from workbench.analysis.documents import require_traces
from workbench.analysis.router import among, boundary_margins
from workbench.analysis.selection import Where, token_mask
from workbench.errors import TraceError
from workbench.traces.trace import Trace


def routing_agreement(first: Trace, second: Trace, where: Where = None) -> pd.DataFrame:
    """Agreement@k of two traces of the same tokens, for example of two precisions.

    Parameters
    ----------
    where
        Which tokens, of the first trace.

    Returns
    -------
    One row per (layer, token): piece; agreement |S ∩ S′| / k; chance k / E, the mean of two
    independent uniform choices (E/M equally likely experts in each group agree with probability
    M/E, which is k/E at one expert per group); margin, the first trace's lead of the last winner
    over the best loser in the group where it is smallest, in probability: where another precision
    is expected to flip first (NaN where no router_logits were recorded).

    Raises
    ------
    TraceError
        If the token ids differ, or the experts do.

    Source: the ratio is OLMoE's router saturation (arXiv 2409.02060, section 5.1), there between
    checkpoints of one training.
    """
    require_traces([first, second])
    mine, other = np.asarray(first.token_ids), np.asarray(second.token_ids)
    if mine.shape != other.shape or (mine != other).any():
        where_from = (
            int(np.argmax(mine != other))
            if mine.shape == other.shape
            else min(len(mine), len(other))
        )
        raise TraceError(
            f"the traces have different tokens ({len(mine)} and {len(other)}; they differ from token "
            f"{where_from} or earlier); trace the same token ids with both models."
        )
    mask = token_mask(first, where)
    tokens = np.flatnonzero(mask)
    pieces = np.array(first.pieces, dtype=object)[tokens]
    frames = []
    for layer in range(first.num_moe_layers):
        here = tallies.chosen_experts(first, layer)[mask]
        there = tallies.chosen_experts(second, layer)[mask]
        frames.append(
            pd.DataFrame(
                {
                    "layer": layer,
                    "token": tokens,
                    "piece": pieces,
                    "agreement": among(here, there).mean(-1),
                    "chance": first.num_experts_per_tok / first.num_experts,
                    "margin": _smallest_margin(first, layer)[mask],
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def _smallest_margin(trace: Trace, layer: int) -> np.ndarray:
    """[token]"""
    if "router_logits" not in trace.arrays:
        return np.full(trace.num_tokens, np.nan)
    probability, chosen = trace.router_probabilities(layer), tallies.chosen_experts(trace, layer)
    return boundary_margins(probability, chosen, trace.num_groups).min(-1)

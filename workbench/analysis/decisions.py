"""How the router decides, token by token, and what its groups cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from workbench.analysis import tallies
from workbench.analysis.documents import Source, documents, require_traces
from workbench.analysis.router import boundary
from workbench.analysis.selection import Where, token_mask
from workbench.analysis.statistics import (
    bootstrap,
    divided,
    hypergeometric,
    overlap_by_chance,
)
from workbench.errors import TraceError
from workbench.traces.trace import Trace

Traces = Trace | Sequence[Trace]


def router_entropy(source: Traces, where: Where = None) -> pd.DataFrame:
    """How undecided the router is, per layer and token.

    Returns
    -------
    One row per (document, layer, token): piece; entropy H(p) / ln E of the router's softmax over
    all experts, 0 (certain) to 1 (uniform); group_entropy, the entropy of p within a group over
    ln(E/M), mean over groups; selected_mass, the probability of the chosen experts together (k / E
    if uniform); margin, the winner's lead over the best loser of its group, mean over groups, in
    probability (0 if uniform).

    This is the entropy of one token's choice; how evenly all tokens together use the experts is
    another number, `load_balance`.

    Source: Shannon's entropy (1948) of the softmax before selection, arXiv 2505.21411, section 2.
    """
    names = ("entropy", "group_entropy", "selected_mass", "margin")
    return _token_frame(
        source,
        where,
        lambda trace, layer, mask: {
            name: values
            for name, values in tallies.decisions(trace, layer, mask).items()
            if name in names
        },
    )


def grouping_tax(source: Traces, where: Where = None) -> pd.DataFrame:
    """What one-of-each-group costs a token against its k most probable experts, G.

    Returns
    -------
    One row per (document, layer, token): piece; overlap |S ∩ G| / k; overlap_by_chance, its mean
    if the experts' order had nothing to do with groups: 1 - C(E-n, k) / C(E, k) at one expert per
    group of n (0.679 for 64 experts in 8 groups); selected_mass Σ_S p; global_mass Σ_G p; mass_lost,
    their difference, at least 0.

    What a global top-k would have done to the text that follows is another question: only the
    choice is compared.

    Means per layer with intervals over documents: `router_profile`. Source: the grouped choice is
    that of arXiv 2505.21411; the comparison is this package's.
    """

    def measure(trace: Trace, layer: int, mask: np.ndarray) -> dict[str, np.ndarray]:
        found = tallies.decisions(trace, layer, mask)
        return {
            "overlap": found["global_overlap"],
            "overlap_by_chance": np.full(mask.sum(), _exchangeable_overlap(trace)),
            "selected_mass": found["selected_mass"],
            "global_mass": found["selected_mass"] + found["mass_lost"],
            "mass_lost": found["mass_lost"],
        }

    return _token_frame(source, where, measure)


def _exchangeable_overlap(found) -> float:
    """Mean of |S ∩ G| / k if all orders of the experts are equally likely.

    A group's s winners are its s best, so of its members in G the first s are chosen.
    """
    slots = found.num_experts_per_tok // found.num_groups
    chance = hypergeometric(  # of so many members of one group in G
        found.num_experts, found.num_experts // found.num_groups, found.num_experts_per_tok
    )
    return float(chance @ np.minimum(np.arange(len(chance)), slots)) / slots


def boundary_margin(source: Traces, where: Where = None, layer: int | None = None) -> pd.DataFrame:
    """How far the best loser of each group was from being used: small margins flip first.

    Parameters
    ----------
    layer
        Only this one; all by default.

    Returns
    -------
    One row per (document, layer, token, group): expert, the last winner of the group (the winner,
    where a token uses one of each group); runner_up, the best loser; margin, their difference in
    probability; logit_margin, in router logits: the change of either logit that flips the choice.

    The chance level is 0: no preference. Source: this package's.
    """
    traces = require_traces(source)
    if layer is not None and not 0 <= layer < traces[0].num_moe_layers:
        raise TraceError(f"there is no layer {layer}; there are {traces[0].num_moe_layers}.")
    frames = []
    for document, trace in enumerate(traces):
        mask = token_mask(trace, where)
        groups = trace.num_groups
        winners = trace.num_experts_per_tok // groups
        if winners == trace.num_experts // groups:
            raise TraceError("every token uses every expert, so there is no runner-up.")
        for number in range(trace.num_moe_layers) if layer is None else [layer]:
            logits = np.asarray(trace.router_logits[number], dtype=np.float64)[mask]
            probability = trace.router_probabilities(number)[mask]
            chosen = tallies.chosen_experts(trace, number)[mask]
            winner, loser = boundary(logits, chosen, groups)  # [token, group]
            lead = [np.take_along_axis(probability, expert, -1) for expert in (winner, loser)]
            logit = [np.take_along_axis(logits, expert, -1) for expert in (winner, loser)]
            frames.append(
                pd.DataFrame(
                    {
                        "document": document,
                        "layer": number,
                        "token": np.repeat(np.flatnonzero(mask), groups),
                        "group": np.tile(np.arange(groups), len(logits)),
                        "expert": winner.ravel(),
                        "runner_up": loser.ravel(),
                        "margin": (lead[0] - lead[1]).ravel(),
                        "logit_margin": (logit[0] - logit[1]).ravel(),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def group_decisions(source: Traces, layer: int, where: Where = None) -> pd.DataFrame:
    """How one layer's router decides within each group.

    Returns
    -------
    One row per (document, layer, token, group): entropy of p within the group over ln(E/M), 0
    certain to 1 uniform; margin, the last winner's probability less the best loser's; mass Σ p over
    the group, chance 1/M; effective_experts exp(H), at most E/M.

    Uniform probabilities within a group have entropy 1, margin 0. Source: this package's.
    """
    frame = boundary_margin(source, where, layer).drop(
        columns=["runner_up", "logit_margin", "expert"]
    )
    entropy, mass = [], []
    for trace in require_traces(source):
        mask = token_mask(trace, where)
        probability = trace.router_probabilities(layer)[mask]
        size = trace.num_experts // trace.num_groups
        grouped = probability.reshape(len(probability), trace.num_groups, size)
        mass.append(grouped.sum(-1).ravel())
        within = divided(grouped, grouped.sum(-1, keepdims=True))
        entropy.append(tallies.entropy(np.nan_to_num(within)).ravel())
    nats = np.concatenate(entropy)
    return frame.assign(
        entropy=nats / np.log(max(2, size)),
        effective_experts=np.exp(nats),
        mass=np.concatenate(mass),
        mass_by_chance=1 / trace.num_groups,
    )


def shared_share(source: Traces, where: Where = None) -> pd.DataFrame:
    """How much of the layer's output comes from the shared expert.

    Returns
    -------
    One row per (document, layer, token): piece; shared_share ‖shared‖ / (‖shared‖ + ‖routed‖),
    Euclidean norms of the shared expert's output and of the weighted sum of the routed ones; 0.5
    where they are equal (a norm says nothing of direction; there is no chance level).

    Source: this package's.
    """
    return _token_frame(
        source, where, lambda *place: {"shared_share": tallies.shared_share(*place)}
    )


def churn(source: Traces, where: Where = None) -> pd.DataFrame:
    """How many experts change from one token to the next.

    Returns
    -------
    One row per (document, layer, token) from the second token on, where the token and the one
    before it are both selected: piece; churn 1 - |S(t) ∩ S(t-1)| / |S(t) ∪ S(t-1)|; chance, its mean
    if both tokens chose uniformly and independently, each one of every group.

    Source: the Jaccard distance of neighbouring tokens' choices.
    """
    frames = []
    for document, trace in enumerate(require_traces(source)):
        mask = token_mask(trace, where)
        chance, pieces = _churn_by_chance(trace), np.array(trace.pieces, dtype=object)
        for layer in range(trace.num_moe_layers):
            tokens, values = tallies.churn(trace, layer, mask)
            frames.append(
                pd.DataFrame(
                    {
                        "document": document,
                        "layer": layer,
                        "token": tokens,
                        "piece": pieces[tokens],
                        "churn": values,
                        "chance": chance,
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def _churn_by_chance(found) -> float:
    slots = found.num_experts_per_tok
    overlap = overlap_by_chance(found.num_experts, found.num_groups, slots)
    common = np.arange(len(overlap))
    return float(overlap @ (1 - common / (2 * slots - common)))


def router_profile(source: Source, where: Where = None, confidence: float = 0.95) -> pd.DataFrame:
    """The means of all measures of single tokens, per layer; a corpus can give these too.

    Returns
    -------
    One row per (layer, measure): value, the mean over tokens; low, high, its interval over
    documents (NaN for fewer than 5); chance (NaN where there is none); tokens that were counted.
    Measures: entropy, group_entropy, selected_mass, margin (see `router_entropy`); global_overlap
    and mass_lost (`grouping_tax`); shared_share; churn. Those whose arrays were not recorded are
    left out.

    Raises
    ------
    TraceError
        If none can be given.

    Sources: see the functions named; intervals as in `workbench.analysis.statistics.bootstrap`.
    """
    found = documents(source, where=where)
    chance = {
        "entropy": 1.0,
        "group_entropy": 1.0,
        "selected_mass": found.num_experts_per_tok / found.num_experts,
        "margin": 0.0,
        "global_overlap": _exchangeable_overlap(found),
        "mass_lost": 0.0,
        "shared_share": np.nan,
        "churn": _churn_by_chance(found),
    }
    tokens = np.repeat(found.tokens[:, None].astype(float), found.num_moe_layers, axis=1)
    frames = []
    for name, level in chance.items():
        if not found.has(name):
            continue
        sums = found.per_document(name)  # [document, layer]
        size = found.per_document("churn_tokens") if name == "churn" else tokens
        low, high = bootstrap(divided, sums, size, confidence=confidence)
        frames.append(
            pd.DataFrame(
                {
                    "layer": np.arange(found.num_moe_layers),
                    "measure": name,
                    "value": divided(sums.sum(0), size.sum(0)),
                    "low": low,
                    "high": high,
                    "chance": level,
                    "tokens": size.sum(0).astype(int),
                }
            )
        )
    return pd.concat(frames).sort_values("layer", kind="stable", ignore_index=True)


def _token_frame(
    source: Traces,
    where: Where,
    measure: Callable[[Trace, int, np.ndarray], dict[str, np.ndarray]],
) -> pd.DataFrame:
    """One row per (document, layer, token) of the mask."""
    frames = []
    for document, trace in enumerate(require_traces(source)):
        mask = token_mask(trace, where)
        tokens = np.flatnonzero(mask)
        pieces = np.array(trace.pieces, dtype=object)[tokens]
        for layer in range(trace.num_moe_layers):
            head = {"document": document, "layer": layer, "token": tokens, "piece": pieces}
            frames.append(pd.DataFrame(head | measure(trace, layer, mask)))
    return pd.concat(frames, ignore_index=True)

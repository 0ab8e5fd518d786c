"""What one trace adds to each sum that the measures are made of.

T tokens, E experts, k chosen per token, M groups. Every function takes a trace and a mask of its
tokens and returns sums over those tokens; a corpus is nothing but such sums, kept per document.
"""

from __future__ import annotations

import numpy as np

from workbench.analysis.router import among, boundary_margins, global_choice, uses
from workbench.analysis.statistics import entropy
from workbench.traces.trace import Trace

LOADS = ("count", "weight", "probability", "global_count")  # [layer, expert]
DECISIONS = (
    "entropy",
    "selected_mass",
    "margin",
    "group_entropy",
    "global_overlap",
    "mass_lost",
)  # [layer], of the router's probabilities
PAIRS = ("weighted", "top1", "counted")  # how experts of neighbouring layers are paired


def chosen_experts(trace: Trace, layer: int) -> np.ndarray:
    """[token, slot] int64."""
    return np.asarray(trace.selected_experts[layer]).astype(np.int64)


def load(trace: Trace, mask: np.ndarray, name: str) -> np.ndarray:
    """[layer, expert], float64: one of `LOADS` summed over tokens."""
    experts, slots = trace.num_experts, trace.num_experts_per_tok
    sums = np.zeros((trace.num_moe_layers, experts))
    for layer in range(trace.num_moe_layers):
        if name == "count":
            sums[layer] = uses(chosen_experts(trace, layer)[mask], experts)
        elif name == "weight":
            weights = np.asarray(trace.routing_weights[layer], dtype=np.float64)[mask]
            chosen = chosen_experts(trace, layer)[mask]
            sums[layer] = np.bincount(chosen.ravel(), weights.ravel(), minlength=experts)
        else:
            probability = trace.router_probabilities(layer)[mask]  # [token, expert]
            sums[layer] = (
                probability.sum(0)
                if name == "probability"
                else uses(global_choice(probability, slots), experts)
            )
    return sums


def decisions(trace: Trace, layer: int, mask: np.ndarray) -> dict[str, np.ndarray]:
    """[token] each, for the tokens of the mask: what `DECISIONS` names.

    entropy H(p) / ln E; selected_mass Σ p over the chosen; margin, the last winner's probability
    less the best loser's of its group, mean over groups (NaN without losers); group_entropy, the entropy within a
    group over ln(E/M), mean over groups; global_overlap |S ∩ G| / k with G the global top-k;
    mass_lost Σ p over G less selected_mass.
    """
    groups, slots = trace.num_groups, trace.num_experts_per_tok
    probability = trace.router_probabilities(layer)[mask]  # [token, expert]
    chosen = chosen_experts(trace, layer)[mask]
    everywhere = global_choice(probability, slots)
    selected_mass = np.take_along_axis(probability, chosen, -1).sum(-1)
    size = trace.num_experts // groups
    grouped = probability.reshape(len(probability), groups, size)  # [token, group, member]
    mass = grouped.sum(-1, keepdims=True)
    within = np.divide(grouped, mass, out=np.zeros_like(grouped), where=mass > 0)
    return {
        "entropy": entropy(probability) / np.log(trace.num_experts),
        "selected_mass": selected_mass,
        "margin": boundary_margins(probability, chosen, groups).mean(-1),
        "group_entropy": entropy(within).mean(-1) / np.log(max(2, size)),
        "global_overlap": among(chosen, everywhere).mean(-1),
        "mass_lost": np.take_along_axis(probability, everywhere, -1).sum(-1) - selected_mass,
    }


def shared_share(trace: Trace, layer: int, mask: np.ndarray) -> np.ndarray:
    """[token]: ‖shared‖ / (‖shared‖ + ‖routed‖)."""
    shared = np.asarray(trace.shared_norm[layer], dtype=np.float64)[mask]
    routed = np.asarray(trace.routed_norm[layer], dtype=np.float64)[mask]
    both = shared + routed
    return np.divide(shared, both, out=np.full(both.shape, np.nan), where=both > 0)


def churn(trace: Trace, layer: int, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tokens whose predecessor is in the mask too, and 1 - |S(t)∩S(t-1)| / |S(t)∪S(t-1)| of each."""
    tokens = np.flatnonzero(mask[1:] & mask[:-1]) + 1
    chosen = chosen_experts(trace, layer)
    common = among(chosen[tokens], chosen[tokens - 1]).sum(-1)
    return tokens, 1 - common / (2 * chosen.shape[-1] - common)


def coactivation(trace: Trace, mask: np.ndarray) -> np.ndarray:
    """[layer, expert, expert]: tokens that use both; the diagonal holds each expert's count."""
    layers = range(trace.num_moe_layers)
    return np.stack([coactivation_of(trace, layer, mask) for layer in layers])


def coactivation_of(trace: Trace, layer: int, mask: np.ndarray) -> np.ndarray:
    """[expert, expert] of one layer, as in `coactivation`."""
    used = _used(trace, layer, mask)
    return used.T @ used


def transitions(trace: Trace, mask: np.ndarray, pairs: str) -> np.ndarray:
    """[layer - 1, expert, next expert]: summed over tokens, from each layer to the next.

    pairs "weighted": all k × k pairs, each by w w′; "counted": all k × k pairs, each as 1; "top1":
    the pair of the two experts of largest weight.
    """
    experts = trace.num_experts
    steps = np.zeros((trace.num_moe_layers - 1, experts, experts))
    here = _used(trace, 0, mask, pairs)  # [token, expert]
    for layer in range(len(steps)):
        after = _used(trace, layer + 1, mask, pairs)
        steps[layer] = here.T @ after
        here = after
    return steps


def _used(trace: Trace, layer: int, mask: np.ndarray, pairs: str = "counted") -> np.ndarray:
    """[token, expert] float64: 1, or the routing weight, where the token uses the expert."""
    chosen = chosen_experts(trace, layer)[mask]
    used = np.zeros((len(chosen), trace.num_experts))
    if pairs == "counted":
        np.put_along_axis(used, chosen, 1.0, axis=-1)
        return used
    weights = np.asarray(trace.routing_weights[layer], dtype=np.float64)[mask]
    if pairs == "top1":
        best = weights.argmax(-1)[:, None]
        np.put_along_axis(used, np.take_along_axis(chosen, best, -1), 1.0, axis=-1)
    else:
        np.put_along_axis(used, chosen, weights, axis=-1)
    return used


def vocabulary(trace: Trace, mask: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """[type, layer, expert]: how often each token id, sorted in `ids`, used each expert."""
    experts = trace.num_experts
    place = np.searchsorted(ids, trace.token_ids)
    known = mask & (place < len(ids))
    known[known] = ids[place[known]] == np.asarray(trace.token_ids)[known]
    counts = np.zeros((len(ids), trace.num_moe_layers, experts), dtype=np.int64)
    for layer in range(trace.num_moe_layers):
        cell = place[known][:, None] * experts + chosen_experts(trace, layer)[known]
        flat = np.bincount(cell.ravel(), minlength=len(ids) * experts)
        counts[:, layer] = flat.reshape(len(ids), experts)
    return counts


def scores(chosen: np.ndarray, num_experts: int, devices: int) -> np.ndarray:
    """Imbalance score × tokens of batches [..., token, slot]: max - min of the devices' pairs."""
    device = chosen.astype(np.int64) // (num_experts // devices)
    flat = device.reshape(*device.shape[:-2], -1)  # [..., token * slot]
    load = np.stack([(flat == number).sum(-1) for number in range(devices)])
    return load.max(0) - load.min(0)


def imbalance(
    trace: Trace, mask: np.ndarray, batch: int, devices: int, everywhere: bool
) -> np.ndarray:
    """[layer, score * batch]: histogram over batches of so many consecutive tokens of the mask.

    With `everywhere` the global top-k is scored in the place of the choice. A last batch that is
    not full is left out.
    """
    slots = trace.num_experts_per_tok
    histogram = np.zeros((trace.num_moe_layers, batch * slots + 1))
    full = int(mask.sum()) // batch * batch
    for layer in range(trace.num_moe_layers) if full else ():
        chosen = (
            global_choice(trace.router_probabilities(layer)[mask], slots)
            if everywhere
            else chosen_experts(trace, layer)[mask]
        )
        found = scores(chosen[:full].reshape(-1, batch, slots), trace.num_experts, devices)
        histogram[layer] = np.bincount(found, minlength=batch * slots + 1)
    return histogram

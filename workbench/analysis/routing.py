"""How tokens are spread over experts. T tokens, E experts, k chosen per token, M groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from workbench.errors import TraceError
from workbench.trace import Trace


def expert_load(trace: Trace) -> pd.DataFrame:
    """How much each expert is used, per layer.

    Returns
    -------
    One row per (layer, expert): group; count N, tokens that use the expert; load_share N / (T k);
    load_ratio = load_share * E, whose chance level is 1; weight_share, the same share by routing
    weight; unused_by_chance (1 - 1/(E/M))^T, the probability that uniform routing within the
    group leaves the expert unused after T tokens.

    In a MoGE model the groups' loads are equal by construction: that is no finding.
    """
    layers, tokens, slots = trace.selected_experts.shape
    experts = trace.num_experts
    frames = []
    for layer in range(layers):
        chosen = np.asarray(trace.selected_experts[layer]).astype(int).ravel()
        weights = np.asarray(trace.routing_weights[layer], dtype=np.float64).ravel()
        count = np.bincount(chosen, minlength=experts)
        weight = np.bincount(chosen, weights=weights, minlength=experts)
        frames.append(
            pd.DataFrame(
                {
                    "layer": layer,
                    "expert": np.arange(experts),
                    "group": np.arange(experts) // (experts // trace.num_groups),
                    "count": count,
                    "load_share": count / (tokens * slots),
                    "load_ratio": count / (tokens * slots) * experts,
                    "weight_share": weight / weight.sum(),
                }
            )
        )
    frame = pd.concat(frames, ignore_index=True)
    frame["unused_by_chance"] = (1 - trace.num_groups / experts) ** tokens
    return frame


def router_entropy(trace: Trace) -> pd.DataFrame:
    """How undecided the router is, per layer and token.

    Returns
    -------
    One row per (layer, token): piece; entropy H(p) / ln E of the router's softmax over all
    experts, 0 (certain) to 1 (uniform); selected_mass, the probability of the chosen experts
    together (k / E if uniform); margin, the winner's lead over the second in its group, mean over
    groups, in probability.
    """
    frames = []
    for layer in range(len(trace.router_logits)):
        probability = trace.router_probabilities(layer)  # [token, expert]
        entropy = -(probability * np.log(np.maximum(probability, 1e-300))).sum(-1)
        ordered = np.sort(probability.reshape(len(probability), trace.num_groups, -1), axis=-1)
        frames.append(
            pd.DataFrame(
                {
                    "layer": layer,
                    "token": np.arange(len(probability)),
                    "piece": trace.pieces,
                    "entropy": entropy / np.log(trace.num_experts),
                    "selected_mass": ordered[..., -1].sum(-1),
                    "margin": (ordered[..., -1] - ordered[..., -2]).mean(-1),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def domain_divergence(
    traces: Sequence[Trace], labels: Sequence[str], permutations: int = 200, seed: int = 0
) -> pd.DataFrame:
    """How differently domains use the experts: Jensen-Shannon divergence per layer, in bits.

    Parameters
    ----------
    traces, labels
        One label per trace (a document); at least two different labels.
    permutations
        How often labels are shuffled over documents for the chance level.

    Returns
    -------
    One row per layer: divergence_bits H(mean of P_d) - mean of H(P_d), with P_d the load share of
    domain d and domains weighted equally; shuffled_bits, its mean under shuffled labels;
    shuffled_95_bits, their 95 % quantile.

    Raises
    ------
    TraceError
        If lengths differ or there are fewer than two labels.
    """
    if len(traces) != len(labels) or len(set(labels)) < 2:
        raise TraceError(
            f"{len(traces)} traces and {len(labels)} labels of {len(set(labels))} kinds; expected "
            "one label per trace and at least two kinds."
        )
    counts = np.stack([_counts(trace) for trace in traces])  # [document, layer, expert]
    label = np.asarray(labels)
    random = np.random.default_rng(seed)
    shuffled = np.stack(
        [_divergence(counts, random.permutation(label)) for _ in range(permutations)]
    )
    return pd.DataFrame(
        {
            "layer": np.arange(counts.shape[1]),
            "divergence_bits": _divergence(counts, label),
            "shuffled_bits": shuffled.mean(0),
            "shuffled_95_bits": np.quantile(shuffled, 0.95, axis=0),
        }
    )


def _counts(trace: Trace) -> np.ndarray:
    """Tokens per (layer, expert)."""
    chosen = np.asarray(trace.selected_experts).astype(int)
    return np.stack([np.bincount(layer.ravel(), minlength=trace.num_experts) for layer in chosen])


def _divergence(counts: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Per layer, in bits; counts [document, layer, expert]."""
    domains = np.stack([counts[label == name].sum(0) for name in np.unique(label)]).astype(float)
    shares = domains / domains.sum(-1, keepdims=True)  # [domain, layer, expert]
    return _entropy_bits(shares.mean(0)) - _entropy_bits(shares).mean(0)


def _entropy_bits(share: np.ndarray) -> np.ndarray:
    return -(share * np.log2(np.where(share > 0, share, 1))).sum(-1)

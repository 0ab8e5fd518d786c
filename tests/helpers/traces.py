"""Traces made by hand, without a model: routing alone."""

from __future__ import annotations

import numpy as np

from workbench.traces.trace import Trace


def handmade(
    logits: np.ndarray,
    groups: int,
    token_ids: np.ndarray | None = None,
    prompt_length: int | None = None,
    spans: list[dict] | None = None,
    scale: np.ndarray | float = 1.0,
) -> Trace:
    """A trace of the given router logits, [layer, token, expert]: the best of each group is used."""
    layers, tokens, experts = logits.shape
    size = experts // groups
    winners = logits.reshape(layers, tokens, groups, size).argmax(-1) + np.arange(groups) * size
    probability = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    weights = np.take_along_axis(probability * scale, winners, -1)
    norms = np.random.default_rng(tokens).uniform(0.5, 2, size=(2, layers, tokens))
    ids = np.arange(tokens) if token_ids is None else np.asarray(token_ids)
    length = tokens if prompt_length is None else prompt_length
    arrays = {
        "token_ids": ids.astype(np.int32),
        "router_logits": logits.astype(np.float32),
        "selected_experts": winners.astype(np.uint8),
        "routing_weights": weights.astype(np.float32),
        "routed_norm": norms[0].astype(np.float32),
        "shared_norm": norms[1].astype(np.float32),
    }
    meta = {
        "config": {"num_hidden_layers": layers, "num_experts": experts},
        "num_groups": groups,
        "pieces": [f"t{token}" for token in ids.tolist()],
        "model_name": "handmade",
        "prompt_length": length,
        "attention_layers": [],
        "spans": spans or [{"kind": "prompt", "start": 0, "end": tokens}],
    }
    return Trace(arrays, meta)


def random_traces(seed: int, lengths: list[int], layers=3, experts=12, groups=4, types=6):
    """Documents of different lengths that use the same few token ids."""
    random = np.random.default_rng(seed)
    return [
        handmade(
            random.normal(size=(layers, length, experts)) * 1.5,
            groups,
            token_ids=random.integers(types, size=length),
            prompt_length=max(1, length // 2),
            scale=random.uniform(0.5, 2, size=experts),
        )
        for length in lengths
    ]


def routed(chosen: np.ndarray, experts: int, token_ids: np.ndarray | None = None) -> Trace:
    """A MoGE trace in which [layer, token, slot] of the groups are chosen with certainty."""
    chosen = np.asarray(chosen)
    logits = np.zeros((*chosen.shape[:2], experts))
    np.put_along_axis(logits, chosen, 4.0, axis=-1)
    return handmade(logits, chosen.shape[-1], token_ids)


def uniform_chosen(random, layers: int, tokens: int, experts: int, groups: int) -> np.ndarray:
    """[layer, token, group]: one expert of each group, uniform and independent."""
    size = experts // groups
    return random.integers(size, size=(layers, tokens, groups)) + np.arange(groups) * size


def top_k_trace(tokens=70, experts=10, slots=3, seed=4) -> Trace:
    """A model without groups: the best `slots` of all experts, in the order of their ranks."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(2, tokens, experts)) + random.normal(size=(2, 1, experts))
    trace = handmade(logits, 1)
    chosen = np.argsort(-logits, axis=-1)[..., :slots].astype(np.uint8)
    probability = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    weights = np.take_along_axis(probability, chosen.astype(int), -1).astype(np.float32)
    return Trace(trace.arrays | {"selected_experts": chosen, "routing_weights": weights}, trace.meta)  # fmt: skip

"""Traces without a model: routing by groups whose every number can be checked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.trace import Trace

PIECES = ["To", " be", ",", " 7", "42", "x", " or", "\n", " 床", " not"]


def made_up_trace(
    layers: int = 3,
    tokens: int = 23,
    experts: int = 12,
    groups: int = 4,
    seed: int = 0,
    bias: float = 1.0,
    **meta: Any,
) -> Trace:
    """A trace of which each group's best expert is used; `bias` makes some experts preferred."""
    random = np.random.default_rng(seed)
    logits = random.standard_normal((layers, tokens, experts)).astype(np.float32)
    logits += bias * random.standard_normal((layers, 1, experts)).astype(np.float32)
    scale = random.uniform(0.5, 2, (layers, experts)).astype(np.float32)
    size = experts // groups
    chosen = np.zeros((layers, tokens, groups), dtype=np.uint8)
    weights = np.zeros((layers, tokens, groups), dtype=np.float32)
    for layer in range(layers):
        for token in range(tokens):
            probability = np.exp(logits[layer, token]) / np.exp(logits[layer, token]).sum()
            for group in range(groups):
                winner = group * size + int(probability[group * size :][:size].argmax())
                chosen[layer, token, group] = winner
                weights[layer, token, group] = probability[winner] * scale[layer, winner]
    first, second = tokens // 2, tokens - tokens // 4
    spans = [("prompt", 0, first), ("thinking", first, second), ("answer", second, tokens)]
    return Trace(
        {
            "token_ids": np.arange(tokens, dtype=np.int32),
            "router_logits": logits,
            "selected_experts": chosen,
            "routing_weights": weights,
            "chosen_logprobs": -random.exponential(2, tokens).astype(np.float32),
        },
        {
            "model_name": "made-up",
            "config": {"num_hidden_layers": layers, "num_experts": experts},
            "num_groups": groups,
            "router_scale": scale.tolist(),
            "pieces": [PIECES[token % len(PIECES)] for token in range(tokens)],
            "spans": [{"kind": kind, "start": start, "end": end} for kind, start, end in spans],
            "prompt_length": first,
            **meta,
        },
    )


def only_choices(trace: Trace, seed: int = 1) -> Trace:
    """What a serving engine records: expert ids alone, a token's in any order."""
    order = np.random.default_rng(seed).permuted(
        np.broadcast_to(
            np.arange(trace.selected_experts.shape[-1]), trace.selected_experts.shape
        ).copy(),
        axis=-1,
    )
    chosen = np.take_along_axis(trace.selected_experts, order, -1)
    meta = {key: value for key, value in trace.meta.items() if key != "router_scale"}
    arrays = {"token_ids": trace.arrays["token_ids"], "selected_experts": chosen}
    return Trace(arrays, meta)

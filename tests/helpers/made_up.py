"""Traces without a model: routing by groups whose every number can be checked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.traces.trace import Trace

PIECES = ["To", " be", ",", " 7", "42", "x", " or", "\n", " 床", " not"]
# Pieces, some of them names, and what searches of the routing view find among them.
NAMED = [
    "<s>",
    "[unused9]",
    "User",
    "x",
    "<0xBA>",
    "<0x0A>",
    "<0x09>",
    "[",
    " 8",
    "<",
    "<br>",
    "</s>",
]
SEARCHES = [
    ("/[A-Za-z]{2,}/", ["User", "<br>"]),
    ("x", ["x"]),
    ("s", ["User"]),
    ("9", []),
    ("[", ["["]),
    ("<", ["<", "<br>"]),
    ("/^ ?[0-9]+$/", [" 8"]),
    ("/^\\s+$/", ["<0x0A>", "<0x09>"]),
    ("[Unused", ["[unused9]"]),
    ("<0x", ["<0xBA>", "<0x0A>", "<0x09>"]),
    ("</", ["</s>"]),
    ("/^<0x[89A-F]/", ["<0xBA>"]),
    ("/^(\\[unused[0-9]+\\]|<(s|/s|unk|pad)>|<\\|[^|]*\\|>:?)$/", ["<s>", "[unused9]", "</s>"]),
]


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


def attended_trace(
    layers: int = 3,
    tokens: int = 23,
    heads: int = 6,
    key_heads: int = 2,
    head_dim: int = 8,
    seed: int = 0,
    noise: float = 0.0,
    dtype: type = np.float16,
    **meta: Any,
) -> Trace:
    """A trace of queries and keys; head 0 likes its neighbours, every head the first token a bit.

    `noise` is added by another seed: the same text in another precision.
    """
    random = np.random.default_rng(seed)
    shape = (layers, tokens, heads, head_dim)
    query = 1.5 * random.standard_normal(shape)
    key = 1.5 * random.standard_normal((layers, tokens, key_heads, head_dim))
    place = np.arange(tokens)[:, None]
    query[:, :, 0, :2] = key[:, :, 0, :2] = 6 * np.concatenate([np.cos(place), np.sin(place)], 1)
    key[:, 0] *= 1.5
    rounding = np.random.default_rng(seed + 1)
    query += noise * rounding.standard_normal(query.shape)
    first, second = tokens // 2, tokens - tokens // 4
    spans = [("prompt", 0, first), ("thinking", first, second), ("answer", second, tokens)]
    pieces = ["[unused9]" if token in (0, 7) else PIECES[token % 10] for token in range(tokens)]
    return Trace(
        {
            "token_ids": np.arange(tokens, dtype=np.int32),
            "query": query.astype(dtype),
            "key": key.astype(dtype),
        },
        {
            "model_name": "made-up",
            "config": {
                "num_hidden_layers": layers,
                "num_attention_heads": heads,
                "num_key_value_heads": key_heads,
            },
            "num_groups": 0,
            "attention_layers": list(range(layers)),
            "pieces": pieces,
            "text": "".join(pieces),
            "offsets": [[0, 0]] * tokens,
            "vocabulary": {},
            "special_ids": [0, 7],
            "spans": [{"kind": kind, "start": start, "end": end} for kind, start, end in spans],
            "prompt_length": first,
            **meta,
        },
    )

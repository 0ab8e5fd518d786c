"""Traces whose attention is known: made of queries and keys, without a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from workbench.traces.trace import Trace


def trace_of(
    query: np.ndarray,
    key: np.ndarray,
    token_ids: Sequence[int] | None = None,
    layers: int | None = None,
    attention_layers: Sequence[int] | None = None,
    prompt_length: int | None = None,
) -> Trace:
    """A trace of query [layer, token, head, head_dim] and key [layer, token, kv_head, head_dim]."""
    recorded, tokens, heads, _ = query.shape
    ids = np.arange(tokens) if token_ids is None else np.asarray(token_ids)
    length = tokens if prompt_length is None else prompt_length
    config = {
        "num_hidden_layers": layers or recorded,
        "num_attention_heads": heads,
        "num_key_value_heads": key.shape[2],
    }
    meta = {
        "model_name": "handmade",
        "config": config,
        "num_groups": 1,
        "pieces": [f"t{token}" for token in ids.tolist()],
        "prompt_length": length,
        "attention_layers": list(attention_layers or range(recorded)),
        "spans": [
            {"kind": "prompt", "start": 0, "end": length},
            {"kind": "answer", "start": length, "end": tokens},
        ],
    }
    return Trace({"token_ids": ids.astype(np.int32), "query": query, "key": key}, meta)


def attending_to(
    patterns: Sequence[Callable[[np.ndarray, np.ndarray], np.ndarray]],
    token_ids: Sequence[int],
    rests_on: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> Trace:
    """One layer with a head per pattern: all attention of a token, shared evenly, is on the keys
    that the pattern (query, key) → bool names; where it names none, on those of `rests_on`, by
    default the token itself.

    A token's query holds the wanted scores, and key k is the k-th unit vector.
    """
    tokens = len(token_ids)
    number = np.arange(tokens)
    causal = number <= number[:, None]
    rest = np.eye(tokens, dtype=bool) if rests_on is None else rests_on(number[:, None], number)
    query = np.zeros((1, tokens, len(patterns), tokens), dtype=np.float32)
    for head, pattern in enumerate(patterns):
        wanted = np.broadcast_to(pattern(number[:, None], number), causal.shape) & causal
        wanted = np.where(wanted.any(-1, keepdims=True), wanted, rest & causal)
        query[0, :, head] = 60 * np.sqrt(tokens) * wanted
    key = np.eye(tokens, dtype=np.float32)[None, :, None]
    return trace_of(query, key, token_ids)


def random_trace(
    seed: int,
    tokens: int,
    types: int = 6,
    layers: int = 2,
    heads: int = 6,
    kv_heads: int = 2,
    size: int = 8,
    **more: object,
) -> Trace:
    """Random queries and keys over a text of a few token ids."""
    random = np.random.default_rng(seed)
    return trace_of(
        random.normal(size=(layers, tokens, heads, size)).astype(np.float16),
        random.normal(size=(layers, tokens, kv_heads, size)).astype(np.float16),
        random.integers(types, size=tokens),
        **more,
    )

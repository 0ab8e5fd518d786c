"""Both Pangu architectures in NumPy float64, written from the published description alone.

It shares no code with the package: weights come straight from the safetensors files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open


def read_weights(folder: Path) -> dict[str, np.ndarray]:
    """All tensors as float64."""
    weights = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as handle:
            for name in handle.keys():  # noqa: SIM118
                weights[name] = handle.get_tensor(name).double().numpy()
    return weights


def rms_norm(x: np.ndarray, weight: np.ndarray, epsilon: float) -> np.ndarray:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * weight


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def swiglu(x: np.ndarray, weights: dict[str, np.ndarray], prefix: str) -> np.ndarray:
    gate = x @ weights[prefix + "gate_proj.weight"].T
    up = x @ weights[prefix + "up_proj.weight"].T
    return (gate / (1 + np.exp(-gate)) * up) @ weights[prefix + "down_proj.weight"].T


def rotate(x: np.ndarray, theta: float) -> np.ndarray:
    """x is [token, head, head_dim]; pairs are (i, i + head_dim / 2)."""
    half = x.shape[-1] // 2
    angles = np.arange(len(x))[:, None] / theta ** (np.arange(half) / half)  # [token, half]
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    first, second = x[..., :half], x[..., half:]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def run(folder: Path, ids: list[int]) -> dict[str, Any]:
    """Run one text; arrays have the axes of a Trace, attention is [layer, head, token, token]."""
    config = json.loads((folder / "config.json").read_text())
    weights = read_weights(folder)
    heads, key_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config["hidden_size"] // heads
    epsilon, theta = config["rms_norm_eps"], config["rope_theta"]
    moe = config["model_type"] == "PanguProMoE"
    record: dict[str, list[np.ndarray]] = {
        name: []
        for name in (
            "router_logits",
            "selected_experts",
            "routing_weights",
            "routed_norm",
            "shared_norm",
            "query",
            "key",
            "attention",
        )
    }
    x = weights["model.embed_tokens.weight"][ids]
    tokens = len(ids)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."

        def linear(h: np.ndarray, name: str, prefix: str = prefix) -> np.ndarray:
            bias = weights.get(f"{prefix}self_attn.{name}_proj.bias", 0.0)
            return h @ weights[f"{prefix}self_attn.{name}_proj.weight"].T + bias

        h = rms_norm(x, weights[prefix + "input_layernorm.weight"], epsilon)
        query = rotate(linear(h, "q").reshape(tokens, heads, head_dim), theta)
        key = rotate(linear(h, "k").reshape(tokens, key_heads, head_dim), theta)
        value = linear(h, "v").reshape(tokens, key_heads, head_dim)
        maps, outputs = [], []
        for head in range(heads):
            shared = head * key_heads // heads
            scores = query[:, head] @ key[:, shared].T / np.sqrt(head_dim)
            scores[np.triu_indices(tokens, 1)] = -np.inf
            maps.append(softmax(scores))
            outputs.append(maps[-1] @ value[:, shared])
        x = x + linear(np.concatenate(outputs, axis=-1), "o")
        record["query"].append(query)
        record["key"].append(key)
        record["attention"].append(np.stack(maps))
        h = rms_norm(x, weights[prefix + "post_attention_layernorm.weight"], epsilon)
        if not moe:
            x = x + swiglu(h, weights, prefix + "mlp.")
            continue
        logits = h @ weights[prefix + "mlp.gate.weight"].T
        probability = softmax(logits)
        groups = config["num_experts_per_tok"]
        size = config["num_experts"] // groups
        chosen = np.zeros((tokens, groups), dtype=int)
        weight = np.zeros((tokens, groups))
        routed = np.zeros_like(h)
        for token in range(tokens):
            for group in range(groups):
                start = group * size
                best = start + int(np.argmax(probability[token, start : start + size]))
                chosen[token, group] = best
                scale = weights[prefix + "mlp.router_scale"][0, best]
                weight[token, group] = probability[token, best] * scale
                routed[token] += weight[token, group] * swiglu(
                    h[token], weights, f"{prefix}mlp.experts.{best}."
                )
        shared_output = swiglu(h, weights, prefix + "mlp.shared_expert.")
        x = x + routed + shared_output
        record["router_logits"].append(logits)
        record["selected_experts"].append(chosen)
        record["routing_weights"].append(weight)
        record["routed_norm"].append(np.linalg.norm(routed, axis=-1))
        record["shared_norm"].append(np.linalg.norm(shared_output, axis=-1))
    x = rms_norm(x, weights["model.norm.weight"], epsilon)
    head_weight = weights.get("lm_head.weight", weights["model.embed_tokens.weight"])
    arrays = {name: np.stack(values) for name, values in record.items() if values}
    return {"logits": x @ head_weight.T, **arrays}

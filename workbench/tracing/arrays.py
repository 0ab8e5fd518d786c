"""The arrays of a Trace, from what was recorded while the model ran.

Queries and keys are rotated here with the model's own cosines and sines.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers.models.llama.modeling_llama import rotate_half

from workbench.tracing.recording import Recording

CHUNK = 256  # tokens whose vocabulary logits are held at once
ROWS = 32  # on a CPU, tokens normalized at once: larger temporaries cost fresh pages every time


def arrays_of(
    record: Recording, layers: Sequence[int], config: Any, first: int = 0
) -> dict[str, np.ndarray]:
    """Routing and attention of the forward passes from the `first` one on."""
    routing = _routing_arrays(record, config, first)
    return routing | _attention_arrays(record, layers, config, first)


def _attention_arrays(
    record: Recording, layers: Sequence[int], config: Any, first: int = 0
) -> dict[str, np.ndarray]:
    """query and key [layer, token, …] of the forward passes from the `first` one on."""
    arrays: dict[str, np.ndarray] = {}
    for name in ("query", "key") if layers else ():
        values = torch.stack(
            [_rotated(record, name, layer, config.head_dim, first) for layer in layers]
        )
        narrow = values.dtype != torch.float32 and _fits_float16(values)
        arrays[name] = values.to(torch.float16 if narrow else torch.float32).numpy()
    return arrays


def _rotated(
    record: Recording, name: str, layer: int, head_dim: int, first: int = 0
) -> torch.Tensor:
    """[token, head, head_dim] on the CPU, turned as the model turned them."""
    heads = record.joined(name, layer, first).unflatten(-1, (-1, head_dim))
    cosine, sine = (
        record.joined(part, 0, first).unsqueeze(1).to(heads.device) for part in ("cosine", "sine")
    )
    return (heads * cosine + rotate_half(heads) * sine).cpu()


def _fits_float16(values: torch.Tensor) -> bool:
    """Whether all are finite and stay so in float16."""
    largest = torch.finfo(torch.float16).max
    low, high = values.aminmax()
    return bool(-largest <= low) and bool(high <= largest)  # False for NaN as well


def _routing_arrays(record: Recording, config: Any, first: int = 0) -> dict[str, np.ndarray]:
    """[moe_layer, token, …] of the forward passes from the `first` one on; empty if dense."""
    arrays: dict[str, np.ndarray] = {}
    routed = sorted(layer for name, layer in record.parts if name == "router_logits")
    if routed:
        for name in ("router_logits", "routing_weights", "routed_norm", "shared_norm"):
            arrays[name] = record.stacked(name, routed, first).float().numpy()
        kind = np.uint8 if config.num_experts <= 256 else np.int16
        chosen = record.stacked("selected_experts", routed, first)
        arrays["selected_experts"] = chosen.numpy().astype(kind)
    return arrays


def predictions(
    head: nn.Module, hidden: torch.Tensor, ids: list[int], top_k: int
) -> dict[str, np.ndarray]:
    """The model's alternatives at every token; hidden is [token, hidden], after the last norm."""
    # The last token has no following one: its own id stands there, and the value is dropped.
    following = torch.tensor([*ids[1:], ids[-1]]).unsqueeze(-1)
    top_ids, top_logprobs, chosen = [], [], []
    for start in range(0, len(ids), CHUNK):
        logits = head(hidden[start : start + CHUNK])  # [token, vocabulary]
        targets = following[start : start + CHUNK].to(logits.device)
        pairs = [(logits, targets)]
        if logits.device.type == "cpu":
            pairs = zip(logits.split(ROWS), targets.split(ROWS), strict=True)
        for rows, target in pairs:
            logprobs = rows.log_softmax(-1, dtype=torch.float32)
            top = logprobs.topk(top_k)
            top_ids.append(top.indices.cpu())
            top_logprobs.append(top.values.cpu())
            chosen.append(logprobs.gather(-1, target).cpu())
    chosen_logprobs = torch.cat(chosen).flatten().numpy()
    chosen_logprobs[-1] = np.nan
    return {
        "top_ids": torch.cat(top_ids).numpy().astype(np.int32),
        "top_logprobs": torch.cat(top_logprobs).numpy(),
        "chosen_logprobs": chosen_logprobs,
    }

"""What is recorded while a model runs, and how it becomes a Trace.

Plain forward hooks on modules that are there anyway; the model keeps its fused attention. Queries
and keys are rotated here with the model's own cosines and sines.
"""

from __future__ import annotations

import platform
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm
from transformers import DynamicCache
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from workbench import generation
from workbench.errors import GenerationError, TraceError
from workbench.generation import Sampling, Step
from workbench.trace import Trace

if TYPE_CHECKING:
    from workbench.pangu import Pangu

CHUNK = 256  # tokens whose vocabulary logits are held at once


@dataclass
class Recording:
    """Tensors as they came, [token, …] each, in lists over forward passes, by (name, layer)."""

    parts: dict[tuple[str, int], list[torch.Tensor]] = field(
        default_factory=lambda: defaultdict(list)
    )
    rotation: tuple[torch.Tensor, torch.Tensor] | None = None

    def add(self, name: str, layer: int, tensor: torch.Tensor) -> None:
        """Keep one tensor whose first axis is the token."""
        self.parts[name, layer].append(tensor)

    def stacked(self, name: str, layers: Sequence[int], first: int = 0) -> torch.Tensor:
        """[layer, token, …] on the CPU, forward passes joined, from the `first` one on."""
        return torch.stack([torch.cat(self.parts[name, layer][first:]).cpu() for layer in layers])


@contextmanager
def recording(
    model: nn.Module, attention_layers: Sequence[int], progress: bool = False
) -> Iterator[Recording]:
    """Record every forward pass of a batch of one inside the block; the hooks go with it.

    With `progress`, a bar counts the layers of a pass that takes more than two seconds.
    """
    record, handles = Recording(), []
    bar = tqdm(
        total=len(model.model.layers),
        desc="tracing",
        unit="layer",
        delay=2,
        leave=False,
        disable=not progress,
    )

    def on_rotation(_module: nn.Module, _inputs: Any, output: Any) -> None:
        record.rotation = output

    def on_projection(name: str, layer: int, _module: nn.Module, _inputs: Any, output: Any) -> None:
        heads = output[0].unflatten(-1, (-1, model.config.head_dim))  # [token, head, head_dim]
        cos, sin = (part[0] for part in record.rotation)
        rotated, _ = apply_rotary_pos_emb(heads, heads[:, :1], cos, sin)  # one head: unused
        record.add(name, layer, rotated)

    def on_router(layer: int, _module: nn.Module, _inputs: Any, output: Any) -> None:
        for name, tensor in zip(
            ("router_logits", "routing_weights", "selected_experts"), output, strict=True
        ):
            record.add(name, layer, tensor)

    def on_norm(name: str, layer: int, _module: nn.Module, _inputs: Any, output: Any) -> None:
        record.add(name, layer, output.float().norm(dim=-1))

    def on_layer(_module: nn.Module, _inputs: Any, _output: Any) -> None:
        bar.update()

    def on_last(_module: nn.Module, _inputs: Any, output: Any) -> None:
        record.add("hidden", 0, output[0])

    try:
        handles.append(model.model.rotary_emb.register_forward_hook(on_rotation))
        handles.append(model.model.norm.register_forward_hook(on_last))
        for index, layer in enumerate(model.model.layers):
            handles.append(layer.register_forward_hook(on_layer))
            if index in attention_layers:
                for name, module in (
                    ("query", layer.self_attn.q_proj),
                    ("key", layer.self_attn.k_proj),
                ):
                    handles.append(
                        module.register_forward_hook(partial(on_projection, name, index))
                    )
            if hasattr(layer.mlp, "experts"):
                for module, hook in (
                    (layer.mlp.gate, partial(on_router, index)),
                    (layer.mlp.experts, partial(on_norm, "routed_norm", index)),
                    (layer.mlp.shared_expert, partial(on_norm, "shared_norm", index)),
                ):
                    handles.append(module.register_forward_hook(hook))
        yield record
    finally:
        for handle in handles:
            handle.remove()
        bar.close()


def trace(
    pangu: Pangu,
    prompt: Any,
    max_new_tokens: int = 0,
    attention: str | Sequence[int] | None = "all",
    top_k: int = 10,
    sampling: Sampling | None = None,
    thinking: str = "slow",
    stop: threading.Event | None = None,
    on_step: Callable[[Step, dict[str, np.ndarray]], None] | None = None,
) -> Trace:
    """Run a text once and keep what the model did.

    Parameters
    ----------
    prompt
        A text, token ids, or messages; see `Pangu.encode`.
    max_new_tokens
        Go on and record a generation of at most so many tokens; 0 only reads the prompt.
    attention
        Layers whose queries and keys are kept: "all", a list of numbers, or None.
    top_k
        How many of the model's alternatives are kept for every token.
    sampling
        For the generation; greedy by default.
    thinking
        For messages; see `PanguTokenizer.apply_chat_template`.
    stop
        When set, no further token is generated; what was read until then becomes the trace.
    on_step
        Called with every generated `Step` and the routing arrays [moe_layer, token, …] of the
        tokens that were run since the last call: first the prompt's, then one token's each.

    Raises
    ------
    GenerationError
        If `stop` was set before anything was read.
    TraceError
        For layers that are not there, a `top_k` below 1, or a text longer than the context.
    """
    model, tokenizer, config = pangu.model, pangu.tokenizer, pangu.config
    layers = _attention_layers(attention, config.num_hidden_layers)
    if not 1 <= top_k <= config.vocab_size:
        raise TraceError(f"top_k is {top_k}; expected 1 to {config.vocab_size}.")
    if max_new_tokens < 0:
        raise TraceError(f"max_new_tokens is {max_new_tokens}; expected 0 or more.")
    ids = pangu.encode(prompt, thinking)
    if len(ids) > config.max_position_embeddings:
        raise TraceError(
            f"the text has {len(ids)} tokens and the model's context is "
            f"{config.max_position_embeddings}; shorten it."
        )
    prompt_length = len(ids)
    sampling = sampling or Sampling(temperature=0)
    with torch.inference_mode(), recording(model, layers, max_new_tokens == 0) as record:
        if max_new_tokens == 0:
            model.model(torch.tensor([ids], device=pangu.device), use_cache=False)
        else:
            cache = DynamicCache(config=config)
            steps = generation.stream(
                pangu, ids, max_new_tokens, sampling, stop, alternatives=1, cache=cache
            )
            new, passes = [], 0
            for step in tqdm(steps, total=max_new_tokens, desc="generating", delay=2, leave=False):
                new.append(step.token_id)
                if on_step is not None:
                    on_step(step, _routing_arrays(record, config, passes))
                passes = len(new)
            if not new:
                raise GenerationError("stopped before the prompt was read; there is no trace.")
            ids = ids + new  # the last one has not been run yet
            model.model(
                torch.tensor([ids[-1:]], device=pangu.device), past_key_values=cache, use_cache=True
            )
        arrays = _arrays(record, layers, config)
        arrays |= _predictions(model.lm_head, torch.cat(record.parts["hidden", 0]), ids, top_k)
    arrays["token_ids"] = np.array(ids, dtype=np.int32)
    _check_groups(arrays, config)
    shown = sorted({*ids, *arrays["top_ids"].ravel().tolist()})
    meta = {
        "model_name": pangu.name,
        "model_type": config.model_type,
        "config": {key: value for key, value in config.to_dict().items() if _is_plain(value)},
        "num_groups": getattr(config, "num_groups", 0),
        "router_scale": [
            layer.mlp.router_scale[0].float().tolist()
            for layer in model.model.layers
            if hasattr(layer.mlp, "router_scale")
        ],
        "attention_layers": layers,
        "text": tokenizer.decode(ids, skip_special=True),
        "pieces": tokenizer.pieces(ids),
        "offsets": tokenizer.offsets(ids),
        "spans": tokenizer.spans(ids, prompt_length),
        "prompt_length": prompt_length,
        "vocabulary": dict(zip(map(str, shown), tokenizer.pieces(shown), strict=True)),
        "special_ids": sorted(set(ids) & set(tokenizer.special_tokens.values())),
        "receipt": pangu.receipt.summary,
        "sampling": asdict(sampling) if max_new_tokens else None,
        "versions": {
            name: version(name) for name in ("torch", "transformers", "bitsandbytes")
        } | {"python": platform.python_version()},
    }  # fmt: skip
    return Trace(arrays, meta)


# -- inside -------------------------------------------------------------------------------------


def _attention_layers(attention: str | Sequence[int] | None, num_layers: int) -> list[int]:
    if attention is None:
        return []
    if isinstance(attention, str):
        if attention != "all":
            raise TraceError(
                f'attention is {attention!r}; expected "all", a list of layers, or None.'
            )
        return list(range(num_layers))
    wanted = sorted({int(layer) for layer in attention})
    if outside := [layer for layer in wanted if not 0 <= layer < num_layers]:
        raise TraceError(
            f"layer {outside[0]} is not there; the model has layers 0 to {num_layers - 1}."
        )
    return wanted


def _arrays(record: Recording, layers: list[int], config: Any) -> dict[str, np.ndarray]:
    arrays = _routing_arrays(record, config)
    for name in ("query", "key") if layers else ():
        values = record.stacked(name, layers)
        narrow = values.half()
        fits = values.dtype != torch.float32 and bool(torch.isfinite(narrow).all())
        arrays[name] = (narrow if fits else values.float()).numpy()
    return arrays


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


def _predictions(
    head: nn.Module, hidden: torch.Tensor, ids: list[int], top_k: int
) -> dict[str, np.ndarray]:
    """The model's alternatives at every token; hidden is [token, hidden], after the last norm."""
    following = torch.tensor(ids[1:], device=hidden.device)
    top_ids, top_logprobs, chosen = [], [], []
    for start in range(0, len(ids), CHUNK):
        logits = head(hidden[start : start + CHUNK])  # [token, vocabulary]
        logprobs = logits.log_softmax(-1, dtype=torch.float32)
        top = logprobs.topk(top_k)
        top_ids.append(top.indices.cpu())
        top_logprobs.append(top.values.cpu())
        target = following[start : start + CHUNK].unsqueeze(-1)
        chosen.append(logprobs[: len(target)].gather(-1, target).flatten().cpu())
    return {
        "top_ids": torch.cat(top_ids).numpy().astype(np.int32),
        "top_logprobs": torch.cat(top_logprobs).numpy(),
        "chosen_logprobs": np.append(torch.cat(chosen).numpy(), np.float32(np.nan)),
    }


def _check_groups(arrays: dict[str, np.ndarray], config: Any) -> None:
    """In a MoGE model every token uses exactly one expert of each group."""
    if "selected_experts" not in arrays:
        return
    size = config.num_experts // config.num_groups
    groups = arrays["selected_experts"].astype(int) // size
    if not np.array_equal(groups, np.broadcast_to(np.arange(config.num_groups), groups.shape)):
        raise TraceError(
            "a token did not use exactly one expert of each group; the model is damaged."
        )


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | list)

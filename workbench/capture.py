"""What is recorded while a model runs, and how it becomes a Trace.

Plain forward hooks on modules that are there anyway; the model keeps its fused attention. Queries
and keys are rotated here with the model's own cosines and sines.
"""

from __future__ import annotations

import platform
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm
from transformers import DynamicCache
from transformers.models.llama.modeling_llama import rotate_half

from workbench import generation
from workbench.arguments import whole_number
from workbench.errors import GenerationError, TraceError
from workbench.generation import Sampling, Step
from workbench.trace import Trace

if TYPE_CHECKING:
    from workbench.pangu import Pangu

CHUNK = 256  # tokens whose vocabulary logits are held at once
ROWS = 32  # on a CPU, tokens normalized at once: larger temporaries cost fresh pages every time


@dataclass
class Recording:
    """Tensors as they came, [token, …] each, in lists over forward passes, by (name, layer)."""

    parts: dict[tuple[str, int], list[torch.Tensor]] = field(
        default_factory=lambda: defaultdict(list)
    )
    router_scale: dict[int, list[float]] = field(default_factory=dict)  # by layer

    def add(self, name: str, layer: int, tensor: torch.Tensor) -> None:
        """Keep one tensor whose first axis is the token."""
        self.parts[name, layer].append(tensor)

    def joined(self, name: str, layer: int, first: int = 0) -> torch.Tensor:
        """[token, …], forward passes joined, from the `first` one on."""
        parts = self.parts[name, layer][first:]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def stacked(self, name: str, layers: Sequence[int], first: int = 0) -> torch.Tensor:
        """[layer, token, …] on the CPU, of the forward passes from the `first` one on."""
        return torch.stack([self.joined(name, layer, first).cpu() for layer in layers])

    def require_tokens(self, count: int) -> None:
        """Refuse a recording in which some module saw another number of tokens.

        Raises
        ------
        TraceError
            If something else ran the model, or a part of it, in between.
        """
        for (name, layer), parts in self.parts.items():
            if (found := sum(map(len, parts))) != count:
                raise TraceError(
                    f"{name} of layer {layer} was recorded for {found} tokens and not for {count}: "
                    "something else ran this model during the trace; trace again without it."
                )


@contextmanager
def recording(
    model: nn.Module, attention_layers: Sequence[int], progress: bool = False
) -> Iterator[Recording]:
    """Record every forward pass of a batch of one inside the block; the hooks go with it.

    Only passes of the thread that records: a generation that runs in another one (a Playground, for
    example) is not seen. With `progress`, a bar counts the layers of a pass that takes more than two
    seconds.
    """
    record, handles, thread = Recording(), [], threading.get_ident()
    bar = tqdm(
        total=len(model.model.layers),
        desc="tracing",
        unit="layer",
        delay=2,
        leave=False,
        disable=not progress,
    )

    def listen(module: nn.Module, hook: Callable[[Any, Any], None]) -> None:
        def heard(_module: nn.Module, inputs: Any, output: Any) -> None:
            if threading.get_ident() == thread:
                hook(inputs, output)

        handles.append(module.register_forward_hook(heard))

    def on_rotation(_inputs: Any, output: Any) -> None:
        for name, tensor in zip(("cosine", "sine"), output, strict=True):
            record.add(name, 0, tensor[0])  # [token, head_dim]

    def on_projection(name: str, layer: int, _inputs: Any, output: Any) -> None:
        record.add(name, layer, output[0])  # [token, head * head_dim]; rotated when all is done

    def on_router(layer: int, inputs: Any, output: Any) -> None:
        if layer not in record.router_scale:  # here, while it is in memory for sure
            record.router_scale[layer] = inputs[1][0].float().tolist()
        for name, tensor in zip(
            ("router_logits", "routing_weights", "selected_experts"), output, strict=True
        ):
            record.add(name, layer, tensor)

    def on_norm(name: str, layer: int, _inputs: Any, output: Any) -> None:
        record.add(name, layer, torch.linalg.vector_norm(output, dim=-1, dtype=torch.float32))

    try:
        listen(model.model.rotary_emb, on_rotation)
        listen(model.model.norm, lambda _, output: record.add("hidden", 0, output[0]))
        for index, layer in enumerate(model.model.layers):
            if progress:
                listen(layer, lambda *_: bar.update())
            if index in attention_layers:
                listen(layer.self_attn.q_proj, partial(on_projection, "query", index))
                listen(layer.self_attn.k_proj, partial(on_projection, "key", index))
            if hasattr(layer.mlp, "experts"):
                listen(layer.mlp.gate, partial(on_router, index))
                listen(layer.mlp.experts, partial(on_norm, "routed_norm", index))
                listen(layer.mlp.shared_expert, partial(on_norm, "shared_norm", index))
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
        Called with every generated `Step` and the arrays of the tokens that were run since the
        last call, first the prompt's, then one token's each: routing [moe_layer, token, …], and
        query and key [layer, token, …] of the `attention` layers.

    Raises
    ------
    GenerationError
        If `stop` was set before anything was read.
    TraceError
        For layers that are not there, a `top_k` below 1, a text longer than the context, or when
        something else ran the model during the trace.
    """
    model, tokenizer, config = pangu.model, pangu.tokenizer, pangu.config
    layers = _attention_layers(attention, config.num_hidden_layers)
    top_k = whole_number("top_k", top_k, TraceError, f"1 to {config.vocab_size}")
    max_new_tokens = whole_number("max_new_tokens", max_new_tokens, TraceError, "0 or more")
    sampling = generation.checked_sampling(sampling, Sampling(temperature=0))
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
    streaming = pangu.streaming  # has a bar of its own
    progress = max_new_tokens == 0 and streaming is None
    with torch.inference_mode(), recording(model, layers, progress) as record:
        if max_new_tokens == 0:
            model.model(torch.tensor([ids], device=pangu.device), use_cache=False)
        else:
            cache = DynamicCache(config=config)
            steps = generation.stream(
                pangu, ids, max_new_tokens, sampling, stop, alternatives=1, cache=cache
            )
            new, passes = [], 0
            with tqdm(total=max_new_tokens, desc="generating", delay=2, leave=False) as bar:
                for step in steps:
                    new.append(step.token_id)
                    if on_step is not None:
                        told = _routing_arrays(record, config, passes)
                        told |= _attention_arrays(record, layers, config, passes)
                        on_step(step, told)
                    passes = len(new)
                    if streaming is not None:
                        bar.set_postfix_str(str(streaming), refresh=False)
                    bar.update()
            if not new:
                raise GenerationError("stopped before the prompt was read; there is no trace.")
            ids = ids + new  # the last one has not been run yet
            model.model(
                torch.tensor([ids[-1:]], device=pangu.device), past_key_values=cache, use_cache=True
            )
        record.require_tokens(len(ids))
        arrays = _arrays(record, layers, config)
        arrays |= _predictions(model.lm_head, record.joined("hidden", 0), ids, top_k)
    arrays["token_ids"] = np.array(ids, dtype=np.int32)
    _check_groups(arrays, config)
    shown = _distinct(arrays["top_ids"], arrays["token_ids"])
    meta = {
        "model_name": pangu.name,
        "model_type": config.model_type,
        "config": {key: value for key, value in config.to_dict().items() if _is_plain(value)},
        "num_groups": getattr(config, "num_groups", 0),
        "router_scale": [scale for _, scale in sorted(record.router_scale.items())],
        "attention_layers": layers,
        "text": tokenizer.decode(ids, skip_special=True),
        "pieces": tokenizer.pieces(ids),
        "offsets": [list(characters) for characters in tokenizer.offsets(ids)],
        "spans": tokenizer.spans(ids, prompt_length),
        "prompt_length": prompt_length,
        "vocabulary": dict(zip(map(str, shown), tokenizer.pieces(shown), strict=True)),
        "special_ids": sorted(set(ids) & set(tokenizer.special_tokens.values())),
        "receipt": pangu.receipt.summary,
        "sampling": asdict(sampling) if max_new_tokens else None,
        "versions": dict(_versions()),
    }  # fmt: skip
    return Trace(arrays, meta)


# -- inside -------------------------------------------------------------------------------------


def _attention_layers(attention: str | Sequence[int] | None, num_layers: int) -> list[int]:
    if attention is None:
        return []
    if isinstance(attention, str) and attention == "all":
        return list(range(num_layers))
    if isinstance(attention, str) or not isinstance(attention, Iterable):
        raise TraceError(f'attention is {attention!r}; expected "all", a list of layers, or None.')
    wanted = sorted(
        {whole_number("a layer", layer, TraceError, "a whole number") for layer in attention}
    )
    if outside := [layer for layer in wanted if not 0 <= layer < num_layers]:
        raise TraceError(
            f"layer {outside[0]} is not there; the model has layers 0 to {num_layers - 1}."
        )
    return wanted


def _arrays(record: Recording, layers: list[int], config: Any) -> dict[str, np.ndarray]:
    return _routing_arrays(record, config) | _attention_arrays(record, layers, config)


def _attention_arrays(
    record: Recording, layers: list[int], config: Any, first: int = 0
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


def _predictions(
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


def _distinct(*ids: np.ndarray) -> list[int]:
    """All token ids that occur, ascending; quicker than sorting them."""
    seen = np.zeros(1 + max(int(array.max()) for array in ids), dtype=bool)
    for array in ids:
        seen[array] = True
    return np.flatnonzero(seen).tolist()


@cache
def _versions() -> dict[str, str]:
    versions = {name: version(name) for name in ("torch", "transformers", "bitsandbytes")}
    return versions | {"python": platform.python_version()}


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | list)

"""How what was recorded while a model ran becomes a Trace.

Queries and keys are rotated here with the model's own cosines and sines.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm
from transformers.models.llama.modeling_llama import rotate_half

from workbench.arguments import whole_number
from workbench.errors import TraceError
from workbench.generation import stream as generation
from workbench.generation.sampling import Sampling, checked_sampling
from workbench.generation.steps import Generation, Step
from workbench.generation.threads import let_go
from workbench.traces.trace import Trace
from workbench.tracing.recording import Recording, attention_layers, recording, stoppable

if TYPE_CHECKING:
    from workbench.generation.prefixes import Prefixes
    from workbench.pangu import Pangu

CHUNK = 256  # tokens whose vocabulary logits are held at once
ROWS = 32  # on a CPU, tokens normalized at once: larger temporaries cost fresh pages every time


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
    *,
    stop_strings: str | Iterable[str] = (),
    begun: Iterable[int | Step] = (),
    prefixes: Prefixes | None = None,
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
    stop_strings, begun, prefixes
        For the generation; see `workbench.generation.stream.stream`.

    Raises
    ------
    GenerationError
        If `stop` was set before anything was read.
    TraceError
        For layers that are not there, a `top_k` below 1, a text longer than the context, or when
        something else ran the model during the trace.
    """
    config = pangu.config
    layers = attention_layers(attention, config.num_hidden_layers)
    top_k = whole_number("top_k", top_k, TraceError, f"1 to {config.vocab_size}")
    max_new_tokens = whole_number("max_new_tokens", max_new_tokens, TraceError, "0 or more")
    sampling = checked_sampling(sampling, Sampling.greedy())
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
    if max_new_tokens == 0:
        record = read(pangu, ids, layers)
        return trace_of(pangu, record, layers, ids, len(ids), top_k, None)
    steps = generation.stream(
        pangu, ids, max_new_tokens, sampling, stop, alternatives=1, stop_strings=stop_strings,
        begun=begun, prefixes=prefixes, record=layers,
    )  # fmt: skip
    passes, shown = 0, on_step is not None  # whoever listens shows the progress
    with (
        closing(steps),
        tqdm(total=max_new_tokens, desc="generating", delay=2, leave=False, disable=shown) as bar,
    ):
        for step in steps:
            if on_step is not None:
                on_step(step, steps.arrays(passes))
                passes = len(steps.token_ids) - steps.prompt_length
            if pangu.streaming is not None:
                bar.set_postfix_str(str(pangu.streaming), refresh=False)
            bar.update()
        bar.total = bar.n  # that it ended earlier is no failure
    return steps.trace(top_k)


def trace_generation(
    pangu: Pangu,
    generation: Generation,
    stop: threading.Event | None = None,
    attention: str | Sequence[int] | None = "all",
    top_k: int = 10,
) -> Trace:
    """A Trace of what was generated, from its tokens, which are read once more in one pass.

    Cheap, and possible at any time; but a pass over many tokens rounds differently than one token
    at a time, so that in a model of 16, 8 or 4 bit a narrow choice of an expert may fall the other
    way. `Stream.trace` tells what really was computed.

    Raises
    ------
    GenerationError
        If `stop` was set before the pass ended.
    """
    ids = list(generation.token_ids)
    layers = attention_layers(attention, pangu.config.num_hidden_layers)
    record = read(pangu, ids, layers, stop)
    sampling = None if generation.recipe is None else generation.recipe.sampling
    return trace_of(pangu, record, layers, ids, generation.prompt_length, top_k, sampling)


def read(
    pangu: Pangu, ids: list[int], layers: list[int], stop: threading.Event | None = None
) -> Recording:
    """Run tokens in one pass and record it; with a bar, but for a model that has one of its own."""
    with (
        pangu.computing(),
        stoppable(pangu.model, stop),
        recording(pangu.model, layers, progress=pangu.streaming is None) as record,
    ):
        pangu.model.model(torch.tensor([ids], device=pangu.device), use_cache=False)
    return record


def trace_of(
    pangu: Pangu,
    record: Recording,
    layers: list[int],
    ids: list[int],
    prompt_length: int,
    top_k: int,
    sampling: Sampling | None,
) -> Trace:
    """The Trace of tokens that all ran while they were recorded, with the queries of `layers`."""
    tokenizer, config = pangu.tokenizer, pangu.config
    record.require_tokens(len(ids))
    with pangu.computing():
        arrays = arrays_of(record, layers, config)
        arrays |= _predictions(pangu.model.lm_head, record.joined("hidden", 0), ids, top_k)
    let_go()
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
        "sampling": None if sampling is None else sampling.as_dict(),
        "versions": pangu.versions(),
    }  # fmt: skip
    return Trace(arrays, meta)


# -- inside -------------------------------------------------------------------------------------


def arrays_of(
    record: Recording, layers: list[int], config: Any, first: int = 0
) -> dict[str, np.ndarray]:
    """Routing and attention of the forward passes from the `first` one on."""
    routing = _routing_arrays(record, config, first)
    return routing | _attention_arrays(record, layers, config, first)


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


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | list)

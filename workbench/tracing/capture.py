"""How what was recorded while a model ran becomes a Trace."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, closing
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from workbench.arguments import whole_number
from workbench.conversation import Prompt
from workbench.errors import TraceError
from workbench.generation.prefixes import Prefixes
from workbench.generation.sampling import Sampling, checked_sampling
from workbench.generation.steps import Generation, Step
from workbench.generation.stopping import stoppable
from workbench.generation.stream import stream
from workbench.generation.threads import let_go
from workbench.traces.trace import Trace
from workbench.tracing.arrays import arrays_of, predictions
from workbench.tracing.engine import TracedEngine
from workbench.tracing.recording import Recording, attention_layers, recording


def trace(
    pangu: TracedEngine,
    prompt: Prompt,
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
    steps = stream(
        pangu, ids, max_new_tokens, sampling, stop, alternatives=1, stop_strings=stop_strings,
        begun=begun, prefixes=prefixes, recorder=Recorder(pangu, layers),
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


class Recorder:
    """Records a model while it generates; what came until then can be had as arrays or as a Trace.

    Parameters
    ----------
    layers
        Whose queries and keys are kept; the routing always is.
    """

    def __init__(
        self, pangu: TracedEngine, layers: Sequence[int], record: Recording | None = None
    ) -> None:
        self.layers = tuple(layers)
        self._pangu, self._record = pangu, record or Recording()

    def recording(self) -> AbstractContextManager[Recording]:
        """Around forward passes that are to be kept."""
        return recording(self._pangu.model, self.layers, record=self._record)

    def first(self, passes: int) -> Recorder:
        """What the first so many forward passes left, for another one to go on with."""
        return Recorder(self._pangu, self.layers, self._record.first(passes))

    def cut(self, passes: int) -> None:
        """Forget what came after the first so many forward passes."""
        self._record.cut(passes)

    def nbytes(self, tokens: int) -> int:
        """What a recording of so many tokens takes."""
        return self._record.nbytes(tokens)

    def arrays(self, first: int = 0) -> dict[str, np.ndarray]:
        """Routing [moe_layer, token, …], query and key [layer, token, …] from pass `first` on."""
        return arrays_of(self._record, self.layers, self._pangu.config, first)

    def trace(
        self, token_ids: Sequence[int], prompt_length: int, top_k: int, sampling: Sampling
    ) -> Trace:
        """The Trace of tokens that all ran while they were recorded.

        Raises
        ------
        TraceError
            If something else ran the model in between.
        """
        return trace_of(
            self._pangu, self._record, self.layers, list(token_ids), prompt_length, top_k, sampling
        )


def trace_generation(
    pangu: TracedEngine,
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
    pangu: TracedEngine, ids: list[int], layers: list[int], stop: threading.Event | None = None
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
    pangu: TracedEngine,
    record: Recording,
    layers: Sequence[int],
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
        arrays |= predictions(pangu.model.lm_head, record.joined("hidden", 0), ids, top_k)
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
        "attention_layers": list(layers),
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

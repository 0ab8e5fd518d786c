"""Token by token: sampling, stopping, and what else the model would have said."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

import torch
from transformers import (
    DynamicCache,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from workbench.arguments import whole_number
from workbench.errors import GenerationError

if TYPE_CHECKING:
    from workbench.pangu import Pangu


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. The defaults are those suggested for Pangu Pro MoE.

    Attributes
    ----------
    temperature : float
        0 takes the most probable token every time (greedy).
    top_p : float
        Keep the most probable tokens that together reach this probability; 1 keeps all.
    top_k : int
        Keep this many of the most probable tokens; 0 keeps all.
    seed : int
        From -2^63 to 2^64 - 1. The same seed, prompt, settings and machine give the same text.

    Raises
    ------
    GenerationError
        For a setting that is no number or out of range.
    """

    temperature: float = 0.6
    top_p: float = 0.95
    top_k: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("temperature", "top_p"):
            object.__setattr__(self, name, _number(name, getattr(self, name)))
        for name in ("top_k", "seed"):
            value = whole_number(name, getattr(self, name), GenerationError, "a whole number")
            object.__setattr__(self, name, value)
        if not self.temperature >= 0:
            raise GenerationError(
                f"temperature is {self.temperature}; expected 0 (greedy) or more."
            )
        if not 0 < self.top_p <= 1:
            raise GenerationError(f"top_p is {self.top_p}; expected more than 0 and at most 1.")
        if self.top_k < 0:
            raise GenerationError(f"top_k is {self.top_k}; expected 0 (off) or more.")
        if not -(2**63) <= self.seed < 2**64:
            raise GenerationError(f"seed is {self.seed}; expected -2^63 to 2^64 - 1.")

    def warpers(self) -> LogitsProcessorList:
        """transformers' own processors in its own order: temperature, top-k, top-p."""
        processors = LogitsProcessorList()
        if self.temperature not in (0, 1):
            processors.append(TemperatureLogitsWarper(float(self.temperature)))
        if self.temperature and self.top_k:
            processors.append(TopKLogitsWarper(self.top_k))
        if self.temperature and self.top_p < 1:
            processors.append(TopPLogitsWarper(float(self.top_p)))
        return processors


@dataclass(frozen=True)
class Alternative:
    """A token the model could have chosen.

    `logprob` is the model's own (natural logarithm, before sampling settings); `kept` tells
    whether the sampling settings left the token in the draw.
    """

    token_id: int
    piece: str
    logprob: float
    kept: bool


@dataclass(frozen=True)
class Step:
    """One generated token.

    Attributes
    ----------
    token_id, piece
        The token; `piece` is printable.
    text : str
        What became readable with this token; empty in the middle of a character.
    logprob : float
        The model's own, natural logarithm, before sampling settings.
    alternatives : tuple of Alternative
        The most probable tokens at this place, best first.
    span : str
        "thinking" or "answer".
    """

    token_id: int
    piece: str
    text: str
    logprob: float
    alternatives: tuple[Alternative, ...]
    span: str


@dataclass(frozen=True)
class Generation:
    """A finished generation.

    `token_ids` are prompt and answer; `finish_reason` is "eos", "length", "context" (the model's
    context is full) or "stopped".
    """

    token_ids: tuple[int, ...]
    prompt_length: int
    steps: tuple[Step, ...]
    finish_reason: str

    @property
    def text(self) -> str:
        """The generated text, thinking included, special tokens left out."""
        return "".join(step.text for step in self.steps)

    @property
    def answer(self) -> str:
        """The generated text without its thinking."""
        return "".join(step.text for step in self.steps if step.span == "answer").strip()

    @property
    def thinking(self) -> str:
        """The text of the thinking span."""
        return "".join(step.text for step in self.steps if step.span == "thinking").strip()


def stream(
    pangu: Pangu,
    token_ids: Sequence[int],
    max_new_tokens: int = 128,
    sampling: Sampling | None = None,
    stop: threading.Event | None = None,
    alternatives: int = 10,
    cache: DynamicCache | None = None,
) -> Iterator[Step]:
    """Generate token by token with a key-value cache.

    Parameters
    ----------
    token_ids
        The prompt.
    max_new_tokens
        At most so many; fewer if the model ends its turn or its context is full.
    stop
        When set, no further token is computed.
    alternatives
        So many of the most probable tokens are told at every step.
    cache
        An empty cache, for a caller that goes on with it.

    Raises
    ------
    GenerationError
        For an empty prompt, one that fills the context, a count below 1, or a setting of another
        kind.
    """
    sampling = checked_sampling(sampling, Sampling())
    max_new_tokens = whole_number("max_new_tokens", max_new_tokens, GenerationError, "1 or more")
    alternatives = whole_number("alternatives", alternatives, GenerationError, "0 or more")
    context = pangu.config.max_position_embeddings
    if not token_ids:
        raise GenerationError("the prompt is empty; pass at least one token.")
    if len(token_ids) >= context:
        raise GenerationError(
            f"the prompt has {len(token_ids)} tokens and the model's context is {context}; shorten it."
        )
    if max_new_tokens < 1:
        raise GenerationError(f"max_new_tokens is {max_new_tokens}; expected 1 or more.")
    if alternatives < 0:
        raise GenerationError(f"alternatives is {alternatives}; expected 0 or more.")
    return _steps(
        pangu, list(token_ids), min(max_new_tokens, context - len(token_ids)), sampling, stop,
        alternatives, DynamicCache(config=pangu.config) if cache is None else cache,
    )  # fmt: skip


def _steps(
    pangu: Pangu,
    token_ids: list[int],
    count: int,
    sampling: Sampling,
    stop: threading.Event | None,
    alternatives: int,
    cache: DynamicCache,
) -> Iterator[Step]:
    tokenizer, device = pangu.tokenizer, pangu.device
    warpers, drawer = sampling.warpers(), torch.Generator(device).manual_seed(sampling.seed)
    ending = end_ids(pangu)
    new_ids: list[int] = []
    shown = 0  # characters given out
    feed = token_ids
    for _ in range(count):
        if stop is not None and stop.is_set():
            return
        with torch.inference_mode():
            logits = (
                pangu.model(
                    torch.tensor([feed], device=device),
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
                .logits[:, -1]
                .float()
            )  # [1, vocabulary]
            logprobs = logits.log_softmax(-1)[0]
            scores = warpers(torch.tensor([token_ids + new_ids], device=device), logits)
            if sampling.temperature == 0:
                token = int(scores.argmax())
            else:
                token = int(torch.multinomial(scores.softmax(-1), 1, generator=drawer))
            top = logprobs.topk(min(alternatives, len(logprobs)))
        new_ids.append(token)
        readable = tokenizer.decode(new_ids, skip_special=True, starts_text=False)
        # A character whose bytes are not all there yet decodes to U+FFFD at the end: wait for it.
        complete = readable.rstrip("\ufffd") if token not in ending else readable
        ranked = top.indices.tolist()
        yield Step(
            token_id=token,
            piece=tokenizer.pieces([token])[0],
            text=complete[shown:],
            logprob=float(logprobs[token]),
            alternatives=tuple(
                Alternative(
                    other,
                    piece,
                    float(logprobs[other]),
                    bool(torch.isfinite(scores[0, other]))
                    if sampling.temperature
                    else other == token,
                )
                for other, piece in zip(ranked, tokenizer.pieces(ranked), strict=True)
            ),
            span=tokenizer.spans(token_ids + new_ids, len(token_ids))[-1]["kind"],
        )
        shown = max(shown, len(complete))
        if token in ending:
            return
        feed = [token]


def checked_sampling(sampling: Sampling | None, otherwise: Sampling) -> Sampling:
    """`sampling`, or `otherwise` where it is None; GenerationError for anything else."""
    if sampling is None:
        return otherwise
    if not isinstance(sampling, Sampling):
        raise GenerationError(
            f"sampling is {sampling!r}; expected workbench.Sampling(...) or None."
        )
    return sampling


def _number(name: str, value: float) -> float:
    if type(value) in (int, float):
        return value
    if isinstance(value, Real) and not isinstance(value, bool):
        return float(value)
    raise GenerationError(f"{name} is {value!r}; expected a number.")


def end_ids(pangu: Pangu) -> set[int]:
    """Ids that end the model's turn: the tokenizer's and the generation config's."""
    configured = pangu.model.generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return {pangu.tokenizer.eos_token_id, *(token for token in ids if token is not None)}


def generate(
    pangu: Pangu,
    token_ids: Sequence[int],
    max_new_tokens: int = 128,
    sampling: Sampling | None = None,
    stop: threading.Event | None = None,
) -> Generation:
    """Run `stream` to its end."""
    steps = tuple(stream(pangu, token_ids, max_new_tokens, sampling, stop))
    return finished(pangu, token_ids, steps, max_new_tokens)


def finished(
    pangu: Pangu, token_ids: Sequence[int], steps: tuple[Step, ...], max_new_tokens: int
) -> Generation:
    """The `Generation` that these steps make, with the reason why they ended."""
    all_ids = (*token_ids, *(step.token_id for step in steps))
    if steps and steps[-1].token_id in end_ids(pangu):
        reason = "eos"
    elif len(steps) == max_new_tokens:
        reason = "length"
    elif len(all_ids) >= pangu.config.max_position_embeddings:
        reason = "context"
    else:
        reason = "stopped"
    return Generation(all_ids, len(token_ids), steps, reason)

"""Token by token: reading, drawing, stopping, and what else the model would have said."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from math import inf, log
from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache

from workbench.arguments import whole_number
from workbench.errors import GenerationError, TraceError
from workbench.generation.drawing import Drawer, Drawn
from workbench.generation.prefixes import Prefix, Prefixes, cache_bytes, first_of
from workbench.generation.recipe import Recipe
from workbench.generation.sampling import Sampling, checked_sampling
from workbench.generation.steps import Alternative, Generation, Step
from workbench.generation.stop_strings import StopStrings, checked_stop_strings
from workbench.tracing.recording import (
    Recording,
    StoppedError,
    attention_layers,
    recording,
    stoppable,
)

if TYPE_CHECKING:
    from workbench.pangu import Pangu
    from workbench.traces.trace import Trace

__all__ = ["Alternative", "Generation", "Sampling", "Step", "Stream", "completed", "stream"]


def stream(
    pangu: Pangu,
    token_ids: Sequence[int],
    max_new_tokens: int = 128,
    sampling: Sampling | None = None,
    stop: threading.Event | None = None,
    alternatives: int = 10,
    stop_strings: str | Iterable[str] = (),
    begun: Iterable[int | Step] = (),
    prefixes: Prefixes | None = None,
    record: bool | Sequence[int] = False,
) -> Stream:
    """Generate token by token with a key-value cache.

    Parameters
    ----------
    token_ids
        The prompt.
    max_new_tokens
        At most so many tokens after `begun`; fewer if the model ends its turn or its context is
        full.
    stop
        When set, nothing more is computed: a forward pass ends before its next layer.
    alternatives
        So many of the most probable tokens are told at every step.
    stop_strings
        The answer ends where one of these comes in its text (thinking included, special tokens
        left out), even in the middle of a token; what comes before it is kept.
    begun
        The start of the answer: tokens that are given and not drawn, of a branch; see
        `Generation.begun`. They are run one by one, as they were when they were drawn, so that a
        branch is the same whether its start is taken from `prefixes` or run again. Where a `Step`
        stands, what it tells of its token is believed; of a bare id it is computed.
    prefixes
        Starts that ran before; this one is added to them.
    record
        What `Stream.trace` will hold: True for routing and all queries and keys, a list of layers
        for the queries and keys of these, [] for the routing alone.

    Raises
    ------
    GenerationError
        For an empty prompt, one that fills the context, a count below 1, a setting of another
        kind, or while another thread generates with this model. While it runs, if memory ends.
    """
    sampling = checked_sampling(sampling, Sampling())
    max_new_tokens = whole_number("max_new_tokens", max_new_tokens, GenerationError, "1 or more")
    alternatives = whole_number("alternatives", alternatives, GenerationError, "0 or more")
    stop_strings = checked_stop_strings(stop_strings)
    given = _checked_begun(begun, pangu.config.vocab_size)
    context = pangu.config.max_position_embeddings
    if not token_ids:
        raise GenerationError("the prompt is empty; pass at least one token.")
    if len(token_ids) >= context:
        raise GenerationError(
            f"the prompt has {len(token_ids)} tokens and the model's context is {context}; shorten it."
        )
    if len(token_ids) + len(given) > context:
        raise GenerationError(
            f"prompt and begun answer have {len(token_ids) + len(given)} tokens and the model's "
            f"context is {context}; shorten them."
        )
    if max_new_tokens < 1:
        raise GenerationError(f"max_new_tokens is {max_new_tokens}; expected 1 or more.")
    if alternatives < 0:
        raise GenerationError(f"alternatives is {alternatives}; expected 0 or more.")
    size = pangu.config.vocab_size
    if outside := [token for token, _ in sampling.logit_bias if token >= size]:
        raise GenerationError(
            f"logit_bias names token {outside[0]}, which is outside the vocabulary of {size}."
        )
    if prefixes is not None and prefixes.pangu is not pangu:
        raise GenerationError(
            f"these prefixes are of another model, {prefixes.pangu.name!r} (or of this one, loaded "
            "another time); use Prefixes(pangu) of the model that generates."
        )
    layers = None
    if record is not False:
        layers = attention_layers(
            "all" if record is True else record, pangu.config.num_hidden_layers
        )
    return Stream(
        pangu, list(token_ids), max_new_tokens, sampling, stop, alternatives, stop_strings, given,
        prefixes, layers,
    )  # fmt: skip


class Stream(Iterator[Step]):
    """A generation that goes on while one iterates over it; made by `Pangu.stream`.

    Attributes
    ----------
    generation : Generation
        What has come so far, at any time: also after an interruption in the middle of a token.
    finish_reason : str or None
        None while it goes on; see `Generation`.
    token_ids : list of int
        Prompt and answer so far; their number is what is used of the context.
    cache_bytes : int
        What the key-value cache takes now.
    recipe : Recipe or None
        Goes into the `Generation`.
    """

    recipe: Recipe | None

    def __init__(
        self,
        pangu: Pangu,
        prompt_ids: list[int],
        max_new_tokens: int,
        sampling: Sampling,
        stop: threading.Event | None,
        alternatives: int,
        stop_strings: tuple[str, ...],
        begun: tuple[int | Step, ...],
        prefixes: Prefixes | None,
        layers: list[int] | None,
    ) -> None:
        self.pangu, self.sampling, self.max_new_tokens = pangu, sampling, max_new_tokens
        self.stop_strings, self.recipe = stop_strings, None
        self.token_ids, self.prompt_length = prompt_ids, len(prompt_ids)
        self.finish_reason: str | None = None
        self._stop, self._num_alternatives = stop, alternatives
        self._readable = ""  # what became readable with the last token
        self._prefixes, self._begun = prefixes, begun
        room = pangu.config.max_position_embeddings - len(prompt_ids) - len(begun)
        self._count = min(max_new_tokens, room)
        self._full = "length" if self._count == max_new_tokens else "context"
        self._steps: list[Step] = []
        self._words = _Words(pangu, prompt_ids, stop_strings)
        self._drawer = Drawer(sampling)
        self._ending = end_ids(pangu)
        self._cache = DynamicCache(config=pangu.config)
        self._ran = 0  # of token_ids: they are in the cache
        self._logits: torch.Tensor | None = None  # [1, vocabulary] after all that ran
        self._prompt_logits: torch.Tensor | None = None
        self._layers = layers
        self._record = None if layers is None else Recording()
        self._take_known()
        pangu.turn.ask()

    def __next__(self) -> Step:
        if self.finish_reason is not None:
            raise StopIteration
        if self._stop is not None and self._stop.is_set():
            self._finish("stopped")
            raise StopIteration
        self.pangu.turn.take(self)
        started = time.perf_counter()
        try:
            step = self._advance()
        except StoppedError:
            self._finish("stopped")
            raise StopIteration from None
        except (MemoryError, RuntimeError) as error:
            self.pangu.turn.leave(self)
            if not _is_out_of_memory(error):
                raise
            raise GenerationError(
                f"memory is full after {len(self.token_ids)} tokens, whose key-value cache takes "
                f"{self.cache_bytes / 1e9:.2f} GB. Shorten the prompt or max_new_tokens, clear "
                'prefixes, or load the model with fewer bits or with memory="…".'
            ) from error
        except BaseException:
            self.pangu.turn.leave(self)
            raise
        if step is None:
            raise StopIteration
        step = replace(step, seconds=time.perf_counter() - started)
        self._steps[-1] = step
        return replace(step, text=self._readable, cut="")

    @property
    def generation(self) -> Generation:
        """What has come so far."""
        answer = (step.token_id for step in self._steps)
        return Generation(
            (*self.token_ids[: self.prompt_length], *answer), self.prompt_length, tuple(self._steps),
            self.finish_reason or "stopped", self._words.stops.found, self._words.tail, self.recipe,
        )  # fmt: skip

    @property
    def begun_ids(self) -> tuple[int, ...]:
        """Tokens of the answer that were given and not drawn."""
        return tuple(item.token_id if isinstance(item, Step) else item for item in self._begun)

    @property
    def cache_bytes(self) -> int:
        """What the key-value cache takes now."""
        return cache_bytes(self._cache)

    def close(self) -> None:
        """End it here; another thread may generate then."""
        if self.finish_reason is None:
            self._finish("stopped")

    def arrays(self, first: int = 0) -> dict[str, Any]:
        """Routing and attention of the forward passes from the `first` one on.

        The first pass read the prompt, every later one a token.

        Returns
        -------
        router_logits, routing_weights … [moe_layer, token, …], unless the model is dense; query and
        key [layer, token, …] of the recorded layers.
        """
        from workbench.tracing.capture import arrays_of

        return arrays_of(self._recorded(), self._layers, self.pangu.config, first)

    def trace(self, top_k: int = 10) -> Trace:
        """What the model did until now, as a Trace; runs the last token, which has not been run.

        Raises
        ------
        TraceError
            Unless `record` was given.
        GenerationError
            If it was stopped before the prompt was read.
        """
        from workbench.tracing.capture import trace_of

        record = self._recorded()
        if self._ran == 0 and self.finish_reason in (None, "stopped"):
            raise GenerationError("stopped before the prompt was read; there is no trace.")
        stop, self._stop = self._stop, None  # the last token runs, though it was stopped
        try:
            self._run_all()
        finally:
            self._stop = stop
        return trace_of(
            self.pangu,
            record,
            self._layers,
            self.token_ids,
            self.prompt_length,
            top_k,
            self.sampling,
        )

    # -- inside ---------------------------------------------------------------------------------

    def _recorded(self) -> Recording:
        if self._record is None:
            raise TraceError(
                "this generation was not recorded; generate with record=True, or read its tokens "
                "once more: workbench.tracing.capture.trace_generation(pangu, generation)."
            )
        return self._record

    def _advance(self) -> Step | None:
        """Go on by one new token; None when it is finished."""
        while len(self._steps) < len(self._begun):
            item = self._begun[len(self._steps)]
            logits = self._run_all()
            with self.pangu.computing():
                self._give(self._described(logits, len(self._steps), item))
            self._take_known()
        place = len(self._steps)
        if self._begun and place == len(self._begun) and (reason := self._ended()):
            return self._finish(reason)
        if place - len(self._begun) == self._count:
            return self._finish(self._full)
        logits = self._run_all()
        with self.pangu.computing():
            step = self._described(logits, place, None)
        self._append(step, last=place + 1 - len(self._begun) == self._count)
        if reason := self._ended():
            self._finish(reason)
        elif place + 1 - len(self._begun) == self._count:
            self._finish(self._full)
        return self._steps[-1]

    def _take_known(self) -> None:
        """Take the tokens of the begun answer of which everything is told already."""
        while (place := len(self._steps)) < len(self._begun):
            if not isinstance(item := self._begun[place], Step):
                return
            self._give(item)

    def _give(self, step: Step) -> None:
        """Take one token of the begun answer."""
        self._append(step, last=False)
        place = len(self._steps)
        if self._words.stops.found is not None and place < len(self._begun):
            raise GenerationError(
                f"the begun answer holds the stop string {self._words.stops.found!r} at token "
                f"{place - 1}, and goes on; let it end there or leave the stop string out."
            )

    def _append(self, step: Step, last: bool) -> None:
        token = step.token_id
        self._readable, own, span = self._words.push(token, last or token in self._ending)
        self._steps.append(replace(step, text=own, span=span, cut=""))
        if self._words.stops.found is not None:
            self._steps = _cut(self._steps, self._words.shown)
        self.token_ids.append(token)
        self._logits = None

    def _ended(self) -> str | None:
        """Why the last token ends the answer, if it does."""
        if self._words.stops.found is not None:
            return "stop_string"
        return "eos" if self._steps[-1].token_id in self._ending else None

    def _finish(self, reason: str) -> None:
        self.finish_reason = reason
        self.pangu.turn.leave(self)
        if self._prefixes is not None and self._prompt_logits is not None:
            ran = self._ran - self.prompt_length
            self._prefixes.add(
                Prefix(
                    tuple(self.token_ids[: self.prompt_length]),
                    tuple(self.token_ids[self.prompt_length : self._ran]),
                    first_of(self._cache, self._ran),
                    self._prompt_logits,
                    None if self._record is None else self._record.first(1 + ran),
                    tuple(self._layers or ()),
                )
            )

    def _run_all(self) -> torch.Tensor:
        """Run what has not been run; the logits [1, vocabulary] for the next token."""
        if self._ran == 0:
            self._take_prefix()
        if self._ran == 0:
            self._prompt_logits = self._run(self.prompt_length)
        while self._ran < len(self.token_ids):
            self._run(1)
        assert self._logits is not None
        return self._logits

    def _take_prefix(self) -> None:
        """Begin with what ran before, if it did."""
        if self._prefixes is None:
            return
        answer = self.token_ids[self.prompt_length :]
        prefix = self._prefixes.longest(self.token_ids[: self.prompt_length], answer, self._layers)
        if prefix is None:
            return
        shared = prefix.shared(answer)
        if shared and shared == len(answer):
            shared -= 1  # the last one is run again, for its logits
        self._cache = first_of(prefix.cache, self.prompt_length + shared)
        self._ran = self.prompt_length + shared
        self._prompt_logits = self._logits = prefix.prompt_logits
        if self._record is not None:
            assert prefix.record is not None
            self._record = prefix.record.first(1 + shared)

    def _run(self, count: int) -> torch.Tensor:
        """One forward pass over the next tokens; interrupted, it leaves no mark."""
        model = self.pangu.model
        ids = torch.tensor(
            [self.token_ids[self._ran : self._ran + count]], device=self.pangu.device
        )
        with self.pangu.computing(), ExitStack() as hooks:
            hooks.enter_context(stoppable(model, self._stop))
            if self._record is not None:
                hooks.enter_context(recording(model, self._layers or (), record=self._record))
            try:
                output = model(ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
                self._logits = output.logits[:, -1].float()
                self._ran += count
            except BaseException:
                self._forget_half_a_pass()
                raise
        return self._logits

    def _forget_half_a_pass(self) -> None:
        if self._ran == 0:
            self._cache = DynamicCache(config=self.pangu.config)
        else:
            self._cache = first_of(self._cache, self._ran)
        if self._record is not None:
            self._record.cut(1 + self._ran - self.prompt_length if self._ran else 0)

    def _described(self, logits: torch.Tensor, place: int, token: int | None) -> Step:
        """The step that draws a token, or takes the one that is given; text and span come later."""
        logprobs = logits[0].log_softmax(-1)
        entropy_bits = -float(logprobs.exp() @ logprobs) / log(2)
        if entropy_bits != entropy_bits:
            raise GenerationError(
                f"the model gives NaN after {len(self.token_ids)} tokens; its weights are damaged, or "
                "its numbers left the range of their type. Load it with other bits."
            )
        scores = self._drawer.adjusted(logits, self.token_ids)
        drawn = self._drawer.draw(scores, place)
        token = drawn.token_id if token is None else token
        others = self._others(logprobs, scores[0], (drawn.token_id, token))
        pieces = self.pangu.tokenizer.pieces([token, *others])
        return Step(
            token_id=token,
            piece=pieces[0],
            text="",
            logprob=float(logprobs[token]),
            alternatives=tuple(
                _alternative(other, piece, logprob, drawn)
                for (other, logprob), piece in zip(others.items(), pieces[1:], strict=True)
            ),
            span="",
            drawn_logprob=drawn.logprob(token),
            entropy_bits=max(0.0, entropy_bits),  # not -0.0
        )

    def _others(
        self, logprobs: torch.Tensor, scores: torch.Tensor, always: Iterable[int]
    ) -> dict[int, float]:
        """Token id → the model's own log-probability, of those that are told."""
        count = min(self._num_alternatives, len(logprobs))
        if count == 0:
            return {}
        top = logprobs.topk(count)
        found = dict(zip(top.indices.tolist(), top.values.tolist(), strict=True))
        lifted = scores.topk(count).indices.tolist() if self.sampling.reorders else ()
        for token in (*lifted, *always):
            if token not in found:
                found[token] = float(logprobs[token])
        return found


class _Words:
    """Text and span of tokens as they come."""

    def __init__(self, pangu: Pangu, prompt_ids: list[int], stop_strings: tuple[str, ...]) -> None:
        tokenizer = pangu.tokenizer
        self.stops = StopStrings(stop_strings)
        self._decoder = tokenizer.decoder(skip_special=True, starts_text=False)
        self._opening, self._closing = tokenizer.thinking_start_id, tokenizer.thinking_end_id
        self._thinking = False
        self.shown = 0  # characters that could be shown until now
        for token in prompt_ids:
            self._span(token)

    def push(self, token: int, last: bool) -> tuple[str, str, str]:
        """What can be shown now, the token's own text, and the span."""
        own = self._decoder.push(token)
        text = self.stops.push(own)
        if last:
            rest = "".join(part for part, _ in self._decoder.rest())
            own += rest
            text += self.stops.push(rest) + self.stops.rest()
        self.shown += len(text)
        return text, own, self._span(token)

    @property
    def tail(self) -> str:
        """What stays if nothing more comes: a sign for a character that is not complete."""
        return "\ufffd" if self.stops.found is None and self._decoder.waiting else ""

    def _span(self, token: int) -> str:
        """As `PanguTokenizer.spans`: both ends of a thinking span belong to it."""
        self._thinking = self._thinking or token == self._opening
        span = "thinking" if self._thinking else "answer"
        if token == self._closing:
            self._thinking = False
        return span


def _cut(steps: Iterable[Step], shown: int) -> list[Step]:
    """The steps, whose texts end after so many characters; what stood there is in `cut`."""
    found = []
    for step in steps:
        text = step.text[:shown]
        found.append(replace(step, text=text, cut=step.text[shown:]))
        shown -= len(text)
    return found


def completed(steps: Stream) -> Generation:
    """Run a stream to its end.

    An interruption, and a GenerationError while it runs, carry what was generated until then as
    `generation`.
    """
    try:
        for _ in steps:
            pass
    except (KeyboardInterrupt, GenerationError) as error:
        steps.close()
        error.generation = steps.generation
        error.add_note(
            f"{len(error.generation.steps)} tokens were generated until then: "
            "import sys; sys.last_value.generation"
        )
        raise
    return steps.generation


def end_ids(pangu: Pangu) -> set[int]:
    """Ids that end the model's turn: the tokenizer's and the generation config's."""
    configured = pangu.model.generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return {pangu.tokenizer.eos_token_id, *(token for token in ids if token is not None)}


def _alternative(token: int, piece: str, logprob: float, drawn: Drawn) -> Alternative:
    drawn_logprob = drawn.logprob(token)
    return Alternative(token, piece, logprob, drawn_logprob > -inf, drawn_logprob)


def _checked_begun(begun: Iterable[int | Step], vocab_size: int) -> tuple[int | Step, ...]:
    expected = "steps or token ids of an answer"
    if isinstance(begun, str) or not isinstance(begun, Iterable):
        raise GenerationError(f"begun is {begun!r}; expected {expected}.")
    found = tuple(
        item if isinstance(item, Step) else whole_number("an item of begun", item, GenerationError, expected)
        for item in begun
    )  # fmt: skip
    for item in found:
        token = item.token_id if isinstance(item, Step) else item
        if not 0 <= token < vocab_size:
            raise GenerationError(
                f"begun holds token {token}, which is outside the vocabulary of {vocab_size}."
            )
    return found


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ended: of a GPU, of Python, or of torch's allocator on the CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    said = str(error)
    return "not enough memory" in said or "can't allocate memory" in said

"""Token by token: reading, drawing, stopping, and what else the model would have said."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from transformers import DynamicCache

from workbench.errors import GenerationError, TraceError, is_out_of_memory
from workbench.generation.choosing import Chooser
from workbench.generation.engine import Engine, Recorder
from workbench.generation.prefixes import Prefix, Prefixes, cache_bytes, first_of
from workbench.generation.recipe import Recipe
from workbench.generation.request import Request, checked_request
from workbench.generation.sampling import Sampling
from workbench.generation.steps import Generation, Step
from workbench.generation.stopping import StoppedError, stoppable
from workbench.generation.words import Words, cut
from workbench.traces.trace import Trace


def stream(
    pangu: Engine,
    token_ids: Sequence[int],
    max_new_tokens: int = 128,
    sampling: Sampling | None = None,
    stop: threading.Event | None = None,
    alternatives: int = 10,
    stop_strings: str | Iterable[str] = (),
    begun: Iterable[int | Step] = (),
    prefixes: Prefixes | None = None,
    recorder: Recorder | None = None,
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
    recorder
        Records every forward pass, for `Stream.trace`.

    Raises
    ------
    GenerationError
        For an empty prompt, one that fills the context, a count below 1, a setting of another
        kind, or while another thread generates with this model. While it runs, if memory ends.
    """
    request = checked_request(
        pangu.config, token_ids, max_new_tokens, sampling, alternatives, stop_strings, begun
    )
    if prefixes is not None and prefixes.pangu is not pangu:
        raise GenerationError(
            f"these prefixes belong to another model, {prefixes.pangu.name!r} (or to this one, loaded "
            "a second time); use Prefixes(pangu) of the model that generates."
        )
    return Stream(pangu, request, stop, prefixes, recorder)


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
    request : Request
        What was asked.
    recipe : Recipe or None
        Goes into the `Generation`.
    """

    recipe: Recipe | None

    def __init__(
        self,
        pangu: Engine,
        request: Request,
        stop: threading.Event | None,
        prefixes: Prefixes | None,
        recorder: Recorder | None,
    ) -> None:
        self.pangu, self.request, self.recipe = pangu, request, None
        self.token_ids, self.prompt_length = list(request.prompt_ids), len(request.prompt_ids)
        self.finish_reason: str | None = None
        self._stop, self._prefixes, self._recorder = stop, prefixes, recorder
        self._readable = ""  # what became readable with the last token
        room = pangu.config.max_position_embeddings - self.prompt_length - len(request.begun)
        self._count = min(request.max_new_tokens, room)
        self._full = "length" if self._count == request.max_new_tokens else "context"
        self._steps: list[Step] = []
        self._words = Words(pangu.tokenizer, request.prompt_ids, request.stop_strings)
        self._chooser = Chooser(pangu.tokenizer, request.sampling, request.alternatives)
        self._ending = end_ids(pangu)
        self._cache = DynamicCache(config=pangu.config)
        self._ran = 0  # of token_ids: they are in the cache
        self._logits: torch.Tensor | None = None  # [1, vocabulary] after all that ran
        self._prompt_logits: torch.Tensor | None = None
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
            if not is_out_of_memory(error):
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
        return self._recorded().arrays(first)

    def trace(self, top_k: int = 10) -> Trace:
        """What the model did until now, as a Trace; runs the last token, which has not been run.

        Raises
        ------
        TraceError
            Unless `record` was given.
        GenerationError
            If it was stopped before the prompt was read.
        """
        recorder = self._recorded()
        if self._ran == 0 and self.finish_reason in (None, "stopped"):
            raise GenerationError("stopped before the prompt was read; there is no trace.")
        stop, self._stop = self._stop, None  # the last token runs, though it was stopped
        try:
            self._run_all()
        finally:
            self._stop = stop
        return recorder.trace(self.token_ids, self.prompt_length, top_k, self.request.sampling)

    # -- inside ---------------------------------------------------------------------------------

    def _recorded(self) -> Recorder:
        if self._recorder is None:
            raise TraceError(
                "this generation was not recorded; generate with record=True, or read its tokens "
                "once more: workbench.tracing.capture.trace_generation(pangu, generation)."
            )
        return self._recorder

    def _advance(self) -> Step | None:
        """Go on by one new token; None when it is finished."""
        while len(self._steps) < len(self.request.begun):
            item = self.request.begun[len(self._steps)]
            logits = self._run_all()
            with self.pangu.computing():
                self._give(self._chooser.choose(logits, self.token_ids, len(self._steps), item))
            self._take_known()
        place = len(self._steps)
        if self.request.begun and place == len(self.request.begun) and (reason := self._ended()):
            return self._finish(reason)
        if place - len(self.request.begun) == self._count:
            return self._finish(self._full)
        logits = self._run_all()
        with self.pangu.computing():
            step = self._chooser.choose(logits, self.token_ids, place)
        self._append(step, last=place + 1 - len(self.request.begun) == self._count)
        if reason := self._ended():
            self._finish(reason)
        elif place + 1 - len(self.request.begun) == self._count:
            self._finish(self._full)
        return self._steps[-1]

    def _take_known(self) -> None:
        """Take the tokens of the begun answer of which everything is told already."""
        while (place := len(self._steps)) < len(self.request.begun):
            if not isinstance(item := self.request.begun[place], Step):
                return
            self._give(item)

    def _give(self, step: Step) -> None:
        """Take one token of the begun answer."""
        self._append(step, last=False)
        place = len(self._steps)
        if self._words.stops.found is not None and place < len(self.request.begun):
            raise GenerationError(
                f"the given beginning of the answer contains the stop string {self._words.stops.found!r} at token "
                f"{place - 1}, and continues after it; end it there or remove the stop string."
            )

    def _append(self, step: Step, last: bool) -> None:
        token = step.token_id
        self._readable, own, span = self._words.push(token, last or token in self._ending)
        self._steps.append(replace(step, text=own, span=span, cut=""))
        if self._words.stops.found is not None:
            self._steps = cut(self._steps, self._words.shown)
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
                    None if self._recorder is None else self._recorder.first(1 + ran),
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
        layers = None if self._recorder is None else self._recorder.layers
        prefix = self._prefixes.longest(self.token_ids[: self.prompt_length], answer, layers)
        if prefix is None:
            return
        shared = prefix.shared(answer)
        if shared and shared == len(answer):
            shared -= 1  # the last one is run again, for its logits
        self._cache = first_of(prefix.cache, self.prompt_length + shared)
        self._ran = self.prompt_length + shared
        self._prompt_logits = self._logits = prefix.prompt_logits
        if self._recorder is not None:
            assert prefix.recorder is not None
            self._recorder = prefix.recorder.first(1 + shared)

    def _run(self, count: int) -> torch.Tensor:
        """One forward pass over the next tokens; interrupted, it leaves no mark."""
        model = self.pangu.model
        ids = torch.tensor(
            [self.token_ids[self._ran : self._ran + count]], device=self.pangu.device
        )
        with self.pangu.computing(), ExitStack() as hooks:
            hooks.enter_context(stoppable(model, self._stop))
            if self._recorder is not None:
                hooks.enter_context(self._recorder.recording())
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
        if self._recorder is not None:
            self._recorder.cut(1 + self._ran - self.prompt_length if self._ran else 0)


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
            f"{len(error.generation.steps)} tokens had been generated; get them with: "
            "import sys; sys.last_value.generation"
        )
        raise
    return steps.generation


def end_ids(pangu: Engine) -> set[int]:
    """Ids that end the model's turn: the tokenizer's and the generation config's."""
    configured = pangu.model.generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return {pangu.tokenizer.eos_token_id, *(token for token in ids if token is not None)}

"""A stand-in for a loaded model that says what a test tells it to."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from workbench.generation.recipe import Recipe
from workbench.generation.sampling import Sampling
from workbench.generation.steps import Generation, Step


class Scripted:
    """Answers every prompt with pieces of text that `answer` gives for it.

    `gate`, if given, is waited for before every token.
    """

    fingerprint, bits, quant_type = "f00", 16, "nf4"

    def __init__(
        self,
        answer: Callable[[str, Sampling], Sequence[str | tuple[str, str]]],
        name: str = "scripted",
        gate: threading.Semaphore | None = None,
    ) -> None:
        self.name, self.answer, self.gate = name, answer, gate

    def stream(
        self, prompt: Any, max_new_tokens: int, sampling: Sampling, thinking: str,
        stop: threading.Event | None, alternatives: int, *, stop_strings: tuple[str, ...] = (),
    ) -> ScriptedStream:  # fmt: skip
        asked = prompt if isinstance(prompt, str) else prompt[-1]["content"]
        recipe = Recipe(
            self.name, self.fingerprint, self.bits, self.quant_type, "cpu",
            prompt if isinstance(prompt, str) else tuple(prompt), (1,), thinking, sampling,
            max_new_tokens, stop_strings,
        )  # fmt: skip
        return ScriptedStream(self, self.answer(asked, sampling), stop, recipe)


class ScriptedStream(Iterator[Step]):
    """One answer, a piece at a time."""

    def __init__(self, model, pieces, stop, recipe) -> None:
        self._pieces, self._model, self._stop = list(pieces), model, stop
        self.generation = Generation((1,), 1, (), "stopped", recipe=recipe)

    def __next__(self) -> Step:
        if self._model.gate is not None:
            self._model.gate.acquire()
        done = self.generation.steps
        if self._stop is not None and self._stop.is_set():
            raise StopIteration
        if len(done) == len(self._pieces):
            self._end("eos")
            raise StopIteration
        piece = self._pieces[len(done)]
        text, span = piece if isinstance(piece, tuple) else (piece, "answer")
        chance = (0.99, 0.6, 0.3, 0.1, 0.01)[len(done) % 5]
        step = Step(10 + len(done), text, text, math.log(chance), (), span)
        self._end("stopped", (*done, step))
        return step

    def close(self) -> None: ...

    def _end(self, reason: str, steps: tuple[Step, ...] | None = None) -> None:
        before = self.generation
        self.generation = Generation(
            (1,), 1, before.steps if steps is None else steps, reason, recipe=before.recipe
        )

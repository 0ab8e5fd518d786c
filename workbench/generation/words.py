"""Tokens become words: the text and the span of each as it comes, and where a stop string ends it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from workbench.generation.steps import Step
from workbench.generation.stop_strings import StopStrings


class Words:
    """Text and span of tokens as they come."""

    def __init__(
        self, tokenizer: Any, prompt_ids: Iterable[int], stop_strings: tuple[str, ...]
    ) -> None:
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


def cut(steps: Iterable[Step], shown: int) -> list[Step]:
    """The steps, whose texts end after so many characters; what stood there is in `cut`."""
    found = []
    for step in steps:
        text = step.text[:shown]
        found.append(replace(step, text=text, cut=step.text[shown:]))
        shown -= len(text)
    return found

"""What a generation is made of: steps with alternatives. Plain values, read without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from workbench.arguments import whole_number
from workbench.errors import GenerationError
from workbench.generation.recipe import Recipe

SHOWN = 60  # characters of a text in its repr
# Why a generation ended, as people read it.
FINISH_REASONS = {
    "eos": "the model ended its turn",
    "length": "max tokens reached",
    "context": "the model's context is full: shorten the conversation, or start a new one",
    "stop_string": "stop string reached",
    "stopped": "stopped",
}


@dataclass(frozen=True)
class Alternative:
    """A token the model could have chosen.

    Attributes
    ----------
    token_id, piece
        The token; `piece` is printable.
    logprob : float
        The model's own, natural logarithm, before sampling settings.
    kept : bool
        Whether the sampling settings left the token in the draw.
    drawn_logprob : float
        After the sampling settings: of what the token was drawn from. -inf if it was not kept.
    """

    token_id: int
    piece: str
    logprob: float
    kept: bool
    drawn_logprob: float = -math.inf


@dataclass(frozen=True)
class Step:
    """One generated token.

    Attributes
    ----------
    token_id, piece
        The token; `piece` is printable.
    text : str
        The token's own text, empty in the middle of a character. While a stream goes on, it gives
        what became readable with the token: what may begin a stop string comes with a later one.
    logprob : float
        The model's own, natural logarithm, before sampling settings.
    alternatives : tuple of Alternative
        The most probable tokens at this place, best first; then those that a bias or a penalty
        lifted among the most probable, and the token itself, unless they stand there already.
    span : str
        "thinking" or "answer".
    drawn_logprob : float
        After the sampling settings; -inf for a token that was given and could not have been drawn.
    entropy_bits : float
        Of the model's own distribution at this place, before sampling settings, base 2.
    seconds : float
        What the token took; counts for no comparison of two steps.
    cut : str
        What a stop string cut off after `text`.
    """

    token_id: int
    piece: str
    text: str
    logprob: float
    alternatives: tuple[Alternative, ...]
    span: str
    drawn_logprob: float = math.nan
    entropy_bits: float = math.nan
    seconds: float = field(default=0.0, compare=False)
    cut: str = ""


@dataclass(frozen=True)
class Generation:
    """What was generated, finished or not.

    Attributes
    ----------
    token_ids : tuple of int
        Prompt and answer.
    prompt_length : int
        Tokens of the prompt.
    steps : tuple of Step
        The answer; of a branch the shared steps come first.
    finish_reason : str
        "eos", "length", "context" (the model's context is full), "stop_string" or "stopped".
    stop_string : str or None
        The one that ended it; the text before it is kept, and the token that completed it is the
        last step.
    tail : str
        U+FFFD for a character that stays incomplete.
    recipe : Recipe or None
        Everything that it takes to generate the same again; counts for no comparison.
    """

    token_ids: tuple[int, ...]
    prompt_length: int
    steps: tuple[Step, ...]
    finish_reason: str
    stop_string: str | None = None
    tail: str = ""
    recipe: Recipe | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        model = "" if self.recipe is None else f"{self.recipe.checkpoint!r}, "
        start = self.text if len(self.text) <= SHOWN else f"{self.text[: SHOWN - 1]}…"
        return f"Generation({model}{len(self.steps)} tokens, {self.finish_reason}: {start!r})"

    def __str__(self) -> str:
        """The text; where there is thinking, apart from the answer."""
        if not self.thinking:
            return self.text
        answer = f"\nanswer: {self.answer}" if self.answer else ""
        return f"thinking: {self.thinking}{answer}"

    @property
    def text(self) -> str:
        """The generated text, thinking included, special tokens left out."""
        return "".join(step.text for step in self.steps) + self.tail

    @property
    def answer(self) -> str:
        """The generated text without its thinking."""
        return self._span("answer")

    @property
    def thinking(self) -> str:
        """The text of the thinking span."""
        return self._span("thinking")

    def begun(self, place: int, token_id: int | None = None) -> tuple[Step | int, ...]:
        """The start of a branch, for `begun=` of `Pangu.stream`.

        Parameters
        ----------
        place
            The step where the branch leaves this answer, from 0; all before it are shared.
        token_id
            What stands there instead; None leaves the place to be drawn again.

        Raises
        ------
        GenerationError
            For a place that is not there, and for a token that is no token id.
        """
        place = whole_number("place", place, GenerationError, "a step of this answer")
        if token_id is not None:
            expected = (
                "a token id (a text's: pangu.tokenizer.encode(text, add_bos=False, "
                "starts_text=False)), or None to draw the place again"
            )
            token_id = whole_number("token_id", token_id, GenerationError, expected)
        if not 0 <= place <= len(self.steps) or (token_id is not None and place == len(self.steps)):
            raise GenerationError(
                f"there is no step {place}; the answer has steps 0 to {len(self.steps) - 1}."
            )
        shared = self.steps[:place]
        if token_id is None:
            return shared
        return (*shared, _chosen(self.steps[place], token_id))

    def to_python(self) -> str:
        """A cell that generates this again and says so if the text is not the same."""
        if self.recipe is None:
            raise GenerationError("this generation carries no recipe, so it cannot be repeated.")
        recipe = self.recipe
        if self.finish_reason == "stopped":
            new = len(self.steps) - len(recipe.begun)
            if new < 1:
                raise GenerationError("this was stopped before its first token; generate it again.")
            recipe = replace(recipe, max_new_tokens=new)
        return recipe.to_python(self.text)

    def _span(self, kind: str) -> str:
        text = "".join(step.text for step in self.steps if step.span == kind)
        if self.steps and self.steps[-1].span == kind:
            text += self.tail
        return text.strip()


def _chosen(step: Step, token_id: int) -> Step | int:
    """The step as it is with another token; the bare id where nothing is known of that token."""
    for other in step.alternatives:
        if other.token_id == token_id:
            return replace(
                step,
                token_id=token_id,
                piece=other.piece,
                logprob=other.logprob,
                drawn_logprob=other.drawn_logprob,
            )
    return token_id

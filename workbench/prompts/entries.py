"""One generation of the history: what its line in the file holds, and the generation again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import nan
from typing import Any

from workbench.errors import HistoryError
from workbench.generation.recipe import Recipe
from workbench.generation.steps import Alternative, Generation, Step
from workbench.prompts.lines import columns_of, marks_of

_WORDS = (
    "id", "time", "model", "prompt", "text", "thinking", "answer", "finish_reason", "note", "parent",
    "name",
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One generation of the history.

    Attributes
    ----------
    id : str
        Names the entry in `History.rate` and in later lines of the file.
    time : str
        When it was saved, ISO 8601 with the local offset from UTC.
    model, prompt, text, answer, thinking : str
        `prompt` as it was typed; of a conversation all turns.
    finish_reason : str
    recipe : dict
        The whole recipe, as `Recipe.as_dict` gives it.
    tokens : dict of lists
        By generated token: "ids", "texts", "pieces", "logprobs" (natural, of the model itself),
        "entropy_bits", "spans"; with `History(alternatives=…)` also "alternatives", each
        [id, piece, logprob]; where a stop string came also "cuts", see `Step.cut`.
    seconds : float or None
        How long it took.
    rating : int or None
        1 to 5; None if there is none.
    note : str
    parent : str
        The id of the generation that this one is a branch of; "" where it begins with a prompt.
    at : int
        The token of the parent's text where it leaves; tokens before it are shared.
    name : str
        Of the branch, if it was given one.
    removed : bool
        Whether it was taken out of its tree; the history keeps it.
    """

    id: str
    time: str
    model: str
    prompt: str
    text: str
    answer: str
    thinking: str
    finish_reason: str
    recipe: dict[str, Any]
    tokens: dict[str, list[Any]] = field(repr=False)
    seconds: float | None = None
    rating: int | None = None
    note: str = ""
    parent: str = ""
    at: int = 0
    name: str = ""
    removed: bool = False

    def generation(self) -> Generation:
        """The generation as it was, as far as it was kept: without `drawn_logprob` and times.

        Raises
        ------
        HistoryError
            If the line in the file lacks the tokens.
        GenerationError
            If its recipe is damaged.
        """
        kept = self.tokens
        if missing := [name for name in ("ids", "pieces", "texts", "spans") if name not in kept]:
            raise HistoryError(
                f"this entry of the history has no {missing[0]}, so its text cannot be shown again."
            )
        names = (
            "ids", "pieces", "texts", "logprobs", "spans", "entropy_bits", "alternatives", "cuts",
        )  # fmt: skip
        columns = [kept.get(name) or [None] * self.num_tokens for name in names]
        if uneven := [
            n for n, column in zip(names, columns, strict=True) if len(column) != self.num_tokens
        ]:
            raise HistoryError(
                f"this entry of the history has {len(kept[uneven[0]])} {uneven[0]} for "
                f"{self.num_tokens} texts; its line in the file is damaged."
            )
        steps = tuple(
            Step(
                token,
                piece,
                text,
                _known(logprob),
                tuple(Alternative(i, p, _known(v), True, nan) for i, p, v in others or ()),
                span,
                entropy_bits=_known(entropy),
                cut=cut or "",
            )
            for token, piece, text, logprob, span, entropy, others, cut in zip(
                *columns, strict=True
            )
        )
        shown = "".join(step.text for step in steps)
        recipe = Recipe.from_dict(self.recipe) if self.recipe else None
        prompt = recipe.prompt_ids if recipe else ()
        ids = (*prompt, *(step.token_id for step in steps))
        tail = self.text[len(shown) :] if self.text.startswith(shown) else ""
        stop_string = None
        if self.finish_reason == "stop_string" and recipe:
            cut, stops = "".join(step.cut for step in steps), recipe.stop_strings
            fits = (stop for stop in stops if cut.startswith(stop) or len(stops) == 1)
            stop_string = next(fits, None)
        return Generation(ids, len(prompt), steps, self.finish_reason, stop_string, tail, recipe)

    @property
    def num_tokens(self) -> int:
        """Generated tokens."""
        return len(self.tokens.get("texts", []))

    @property
    def logprob_mean(self) -> float | None:
        """Mean natural log-probability of the generated tokens; None where none is known."""
        known = [value for value in self.tokens.get("logprobs", []) if value is not None]
        return sum(known) / len(known) if known else None


def line_of(entry: Entry) -> dict[str, Any]:
    """What a person looks for first, first."""
    names = (*_WORDS, "at", "removed", "rating", "seconds", "recipe", "tokens")
    return {name: getattr(entry, name) for name in names}


def entry_of(record: Mapping[str, Any]) -> Entry:
    """A line that somebody else wrote may hold anything."""
    recipe, seconds, at = (record.get(name) for name in ("recipe", "seconds", "at"))
    words = {name: str(record.get(name) or "") for name in _WORDS}
    return Entry(
        **words,
        recipe=recipe if isinstance(recipe, dict) else {},
        tokens=columns_of(record),
        seconds=seconds if isinstance(seconds, int | float) else None,
        rating=marks_of(record).get("rating"),
        at=at if isinstance(at, int) else 0,
        removed=record.get("removed") is True,
    )


def place_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Name in the tree, and whether it is there, as far as a line tells them."""
    kinds = {"name": str, "removed": bool}
    return {
        name: record[name] for name, kind in kinds.items() if isinstance(record.get(name), kind)
    }


def _known(value: float | None) -> float:
    return nan if value is None else value

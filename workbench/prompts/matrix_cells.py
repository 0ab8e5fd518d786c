"""The cells of a prompt matrix: where each stands, what came of it, and its line in the file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench.prompts.lines import columns_of, marks_of

WORDS = ("text", "answer", "thinking", "finish_reason", "note")
COLUMNS = (
    "model", "setting", "prompt", "state", "text", "thinking", "answer", "tokens", "logprob_mean",
    "finish_reason", "seconds", "rating", "note", "error", "recipe",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One place of the matrix.

    Attributes
    ----------
    place : int
        In the order in which the cells run: models, then variants, then settings.
    model, setting : str
        Their names.
    variables : dict of str to str
    prompt, system : str
        Filled in; `system` may be "".
    key : str
        Of everything above and the settings: what else would change the text, but for the model's
        weights.
    """

    place: int
    model: str
    setting: str
    variables: dict[str, str]
    prompt: str
    system: str
    key: str


@dataclass(frozen=True)
class Result:
    """What came of a cell.

    Attributes
    ----------
    state : str
        "waiting", "running", "done" or "error".
    text, answer, thinking, finish_reason, seconds
        As of a generation.
    tokens : dict of lists
        As of `workbench.prompts.history.Entry`.
    recipe : dict
    rating : int or None
        1 to 5; None if there is none.
    note : str
    error : str
        Why there is no text; the cell is run again when the matrix goes on.
    """

    state: str = "waiting"
    text: str = ""
    answer: str = ""
    thinking: str = ""
    finish_reason: str = ""
    seconds: float | None = None
    rating: int | None = None
    note: str = ""
    tokens: dict[str, list[Any]] = field(default_factory=dict, repr=False)
    recipe: dict[str, Any] = field(default_factory=dict, repr=False)
    error: str = ""

    @property
    def logprob_mean(self) -> float | None:
        """Mean natural log-probability of the generated tokens; None where none is known."""
        known = [value for value in self.tokens.get("logprobs", []) if value is not None]
        return sum(known) / len(known) if known else None


def column_of(variable: str) -> str:
    """The name of a variable's column in `PromptMatrix.table`."""
    return f"{{{{{variable}}}}}" if variable in COLUMNS else variable


def key_of(*parts: Any) -> str:
    content = json.dumps(parts, sort_keys=True).encode("utf-8")
    return hashlib.sha256(content).hexdigest()[:16]


def result_of(record: Mapping[str, Any]) -> Result:
    """A line that somebody else wrote may hold anything."""
    seconds = record.get("seconds")
    return Result(
        state="done",
        **{name: str(record.get(name) or "") for name in WORDS},
        seconds=seconds if isinstance(seconds, int | float) else None,
        rating=marks_of(record).get("rating"),
        tokens=columns_of(record),
        recipe=record["recipe"],
    )

"""What lines of the files hold: generated tokens as lists, ratings and notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from workbench.arguments import whole_number
from workbench.errors import HistoryError
from workbench.generation.steps import Step

RATINGS = range(6)  # 0 takes a rating back
_RATED = "1 to 5, or 0 to remove a rating"


def token_columns(steps: Sequence[Step], alternatives: int = 0) -> dict[str, list[Any]]:
    """Generated tokens as lists, to be written as JSON; see `Entry.tokens`."""
    columns: dict[str, list[Any]] = {
        "ids": [step.token_id for step in steps],
        "texts": [step.text for step in steps],
        "pieces": [step.piece for step in steps],
        "logprobs": [_rounded(step.logprob) for step in steps],
        "entropy_bits": [_rounded(step.entropy_bits) for step in steps],
        "spans": [step.span for step in steps],
    }
    if any(step.cut for step in steps):
        columns["cuts"] = [step.cut for step in steps]
    if alternatives:
        columns["alternatives"] = [
            [
                [other.token_id, other.piece, _rounded(other.logprob)]
                for other in step.alternatives[:alternatives]
            ]
            for step in steps
        ]
    return columns


def checked_mark(rating: int | None, note: str | None) -> dict[str, Any]:
    """A rating, a note or both as a part of a line.

    Raises
    ------
    HistoryError
        If both are missing, or are something else.
    """
    if rating is None and note is None:
        raise HistoryError("there is nothing to write: pass rating=0 to 5, note=…, or both.")
    mark: dict[str, Any] = {"time": datetime.now(UTC).astimezone().isoformat(timespec="seconds")}
    if rating is not None:
        mark["rating"] = whole_number("rating", rating, HistoryError, _RATED)
        if mark["rating"] not in RATINGS:
            raise HistoryError(f"rating is {rating}; expected {_RATED}.")
    if note is not None:
        if not isinstance(note, str):
            raise HistoryError(f"note is {note!r}; expected a text.")
        mark["note"] = note
    return mark


def marks_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Rating and note of a line, as far as they are there and can be what they should."""
    marks: dict[str, Any] = {}
    if record.get("rating") in RATINGS:
        marks["rating"] = int(record["rating"]) or None
    if isinstance(record.get("note"), str):
        marks["note"] = record["note"]
    return marks


def columns_of(record: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The tokens of a line; none where it holds something else."""
    tokens = record.get("tokens")
    if not isinstance(tokens, dict) or not all(isinstance(c, list) for c in tokens.values()):
        return {}
    words = [*tokens.get("texts", []), *tokens.get("pieces", []), *tokens.get("spans", [])]
    words += tokens.get("cuts", [])
    return tokens if all(isinstance(word, str) for word in words) else {}


def as_text(prompt: Any) -> str:
    """A prompt for people: a text as it is, a conversation with its roles, ids as numbers."""
    if isinstance(prompt, str):
        return prompt
    prompt = list(prompt)
    if prompt and all(isinstance(turn, Mapping) for turn in prompt):
        return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in prompt)
    return " ".join(str(item) for item in prompt)


def _rounded(value: float) -> float | None:
    """Null for what JSON cannot hold: infinity, and NaN where nothing is known."""
    return round(float(value), 6) if isfinite(value) else None

"""What was generated, with its whole recipe, in a file that people can read."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from workbench.arguments import whole_number
from workbench.errors import HistoryError
from workbench.prompts.journal import DamagedLine, Journal

if TYPE_CHECKING:
    from workbench.generation.recipe import Recipe
    from workbench.generation.steps import Generation, Step

RATINGS = range(6)  # 0 takes a rating back


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
        from workbench.generation.recipe import Recipe
        from workbench.generation.steps import Alternative, Generation, Step

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


class History:
    """An append-only file of generations that survives a restart of the kernel.

    Every line is one JSON object: a generation with its recipe, or a later rating or note. Several
    notebooks may write to one file.

    Parameters
    ----------
    path
        By default in the notebook's folder.
    alternatives
        So many alternatives of every token are kept; each takes about 40 bytes.

    Attributes
    ----------
    damaged : list of DamagedLine
        Lines that could not be read, as after a crash; they stay in the file.

    Raises
    ------
    HistoryError
        If the path is a folder, or its folder is not there.
    """

    def __init__(self, path: str | Path = "pangu-history.jsonl", alternatives: int = 0) -> None:
        self._journal = Journal(path)
        self._alternatives = whole_number("alternatives", alternatives, HistoryError, "0 or more")

    def __repr__(self) -> str:
        return f"History({str(self.path)!r}): {len(self)} generations"

    def __len__(self) -> int:
        return len(self.entries())

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries())

    def __getitem__(self, key: str | int) -> Entry:
        """By id, or by place: 0 is the oldest, -1 the last."""
        entries = self.entries()
        if isinstance(key, str):
            for entry in entries:
                if entry.id == key:
                    return entry
            raise HistoryError(f"{self.path} has no generation {key!r}; .table() lists the ids.")
        place = whole_number("the place", key, HistoryError, "a whole number or an id")
        if not -len(entries) <= place < len(entries):
            raise HistoryError(f"{self.path} has {len(entries)} generations, and no place {place}.")
        return entries[place]

    @property
    def path(self) -> Path:
        """The file."""
        return self._journal.path

    @property
    def damaged(self) -> list[DamagedLine]:
        """Lines that could not be read; they stay in the file."""
        self._journal.read()
        return list(self._journal.damaged)

    def add(
        self,
        generation: Generation,
        recipe: Recipe | Mapping[str, Any] | None = None,
        prompt: str | Sequence[Mapping[str, str]] | None = None,
        model: str | None = None,
        seconds: float | None = None,
        note: str = "",
        parent: str = "",
        at: int = 0,
        name: str = "",
    ) -> Entry:
        """Write a generation down; it is on the disk when this returns.

        Parameters
        ----------
        generation
            Finished or stopped.
        recipe
            A `Recipe`, or the same as a dict; by default the generation's own.
        prompt, model
            By default the recipe's.
        seconds
            How long it took.
        parent, at
            Of a branch: the id of the entry that it leaves, and the token where it does.
        name
            What it is called in the tree.

        Raises
        ------
        HistoryError
            If the file cannot be written.
        """
        recipe = generation.recipe if recipe is None else recipe
        kept = (
            dict(recipe or {})
            if recipe is None or isinstance(recipe, Mapping)
            else recipe.as_dict()
        )
        prompt = kept.get("prompt", "") if prompt is None else prompt
        entry = Entry(
            id=uuid.uuid4().hex[:12],
            time=datetime.now(UTC).astimezone().isoformat(timespec="seconds"),
            model=str(kept.get("checkpoint", "")) if model is None else model,
            prompt=as_text(prompt),
            text=generation.text,
            answer=generation.answer,
            thinking=generation.thinking,
            finish_reason=generation.finish_reason,
            recipe=kept,
            tokens=token_columns(generation.steps, self._alternatives),
            seconds=None if seconds is None else round(float(seconds), 3),
            note=note,
            parent=parent,
            at=at,
            name=name,
        )
        self._journal.append({"kind": "generation", **_line(entry)})
        return entry

    def rate(self, entry: Entry | str, rating: int | None = None, note: str | None = None) -> None:
        """Rate an entry, write a note beside it, or both; a later line of the file.

        Parameters
        ----------
        rating
            1 to 5; 0 takes the rating back.
        note
            "" takes the note back.

        Raises
        ------
        HistoryError
            For another rating, an unknown id, or a file that cannot be written.
        """
        key = self._id(entry)  # an unknown one is told before anything is written
        self._journal.append({"kind": "mark", "id": key, **checked_mark(rating, note)})

    def rename(self, entry: Entry | str, name: str) -> None:
        """Give a branch another name; a later line of the file.

        Raises
        ------
        HistoryError
            For an unknown id, or a file that cannot be written.
        """
        self._journal.append({"kind": "mark", "id": self._id(entry), "name": name})

    def remove(self, entry: Entry | str, removed: bool = True) -> None:
        """Take a generation out of its tree, or put it back; a later line of the file.

        Raises
        ------
        HistoryError
            For an unknown id, or a file that cannot be written.
        """
        self._journal.append({"kind": "mark", "id": self._id(entry), "removed": bool(removed)})

    def tree(self, entry: Entry | str) -> list[Entry]:
        """All generations of the tree that one is in, parents before their branches.

        Those that were removed are left out, except the one that was asked for and those that
        branches still there begin from.

        Raises
        ------
        HistoryError
            For an unknown id.
        """
        key = self._id(entry)
        entries, roots = self.entries(), {}
        for other in entries:  # parents stand before their branches
            roots[other.id] = roots.get(other.parent, other.id)
        needed = {key}
        for other in reversed(entries):
            if other.id in needed or not other.removed:
                needed |= {other.id, other.parent}
        return [other for other in entries if roots[other.id] == roots[key] and other.id in needed]

    def _id(self, entry: Entry | str) -> str:
        return self[entry.id if isinstance(entry, Entry) else entry].id

    def entries(self) -> list[Entry]:
        """All generations, oldest first, with their latest ratings, notes and names, also removed ones."""
        found: dict[str, Entry] = {}
        for record in self._journal.read():
            if record.get("kind") == "generation" and isinstance(record.get("id"), str):
                found[record["id"]] = _entry(record)
            elif record.get("kind") == "mark" and record.get("id") in found:
                found[record["id"]] = replace(
                    found[record["id"]], **marks_of(record), **_place_of(record)
                )
        return list(found.values())

    def table(
        self,
        contains: str | None = None,
        model: str | None = None,
        min_rating: int | None = None,
        finish_reason: str | None = None,
    ) -> pd.DataFrame:
        """One row per generation, filtered.

        Parameters
        ----------
        contains
            In the prompt, the text or the note; upper and lower case are the same.
        model, finish_reason
            Exactly this one.
        min_rating
            Rated so or better; what is not rated is left out.
        """
        needle = None if contains is None else contains.casefold()
        rows = [
            {
                "id": entry.id,
                "time": entry.time,
                "model": entry.model,
                "prompt": entry.prompt,
                "text": entry.text,
                "thinking": entry.thinking,
                "answer": entry.answer,
                "tokens": entry.num_tokens,
                "logprob_mean": entry.logprob_mean,
                "finish_reason": entry.finish_reason,
                "seconds": entry.seconds,
                "rating": entry.rating,
                "note": entry.note,
                "parent": entry.parent,
                "at": entry.at,
                "name": entry.name,
                "recipe": entry.recipe,
            }
            for entry in self.entries()
            if (model is None or entry.model == model)
            and (finish_reason is None or entry.finish_reason == finish_reason)
            and (min_rating is None or (entry.rating or 0) >= min_rating)
            and (
                needle is None
                or any(needle in t.casefold() for t in (entry.prompt, entry.text, entry.note))
            )
        ]
        frame = pd.DataFrame(rows, columns=_COLUMNS)
        return frame.astype({"rating": "Int64", "logprob_mean": float, "seconds": float})

    def to_jsonl(self, path: str | Path) -> int:
        """Write one line per generation, ratings and notes folded in; how many there are."""
        entries = self.entries()
        lines = [json.dumps(_line(entry), ensure_ascii=False) + "\n" for entry in entries]
        _write(path, "".join(lines), "backslashreplace", self.path)
        return len(entries)

    def to_html(self, path: str | Path | None = None) -> str | None:
        """A page of all generations that needs nothing else and runs nothing; None if it is
        written to `path`.

        Every token is coloured by its probability. Whatever the texts hold is shown, not
        interpreted.
        """
        from workbench.prompts.history_page import history_page

        page = history_page(self.entries(), self.path.name)
        if path is None:
            return page
        _write(path, page, "strict", self.path)
        return None


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


# -- inside -------------------------------------------------------------------------------------

_RATED = "1 to 5, or 0 to take a rating back"
_COLUMNS = [
    "id", "time", "model", "prompt", "text", "thinking", "answer", "tokens", "logprob_mean",
    "finish_reason", "seconds", "rating", "note", "parent", "at", "name", "recipe",
]  # fmt: skip
_WORDS = (
    "id", "time", "model", "prompt", "text", "thinking", "answer", "finish_reason", "note", "parent",
    "name",
)  # fmt: skip


def _rounded(value: float) -> float | None:
    """Null for what JSON cannot hold: infinity, and NaN where nothing is known."""
    return round(float(value), 6) if isfinite(value) else None


def _known(value: float | None) -> float:
    return nan if value is None else value


def _line(entry: Entry) -> dict[str, Any]:
    """What a person looks for first, first."""
    names = (*_WORDS, "at", "removed", "rating", "seconds", "recipe", "tokens")
    return {name: getattr(entry, name) for name in names}


def _entry(record: Mapping[str, Any]) -> Entry:
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


def _place_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Name in the tree, and whether it is there, as far as a line tells them."""
    kinds = {"name": str, "removed": bool}
    return {
        name: record[name] for name, kind in kinds.items() if isinstance(record.get(name), kind)
    }


def _write(path: str | Path, content: str, errors: str, source: Path) -> None:
    path = Path(path)
    if path.absolute() == source.absolute():
        raise HistoryError(f"{path} is the history itself; export to another file.")
    try:
        path.write_bytes(content.encode("utf-8", errors=errors))
    except OSError as error:
        raise HistoryError(f"{path} cannot be written ({error.strerror}).") from error

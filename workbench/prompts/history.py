"""What was generated, with its whole recipe, in a file that people can read."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from workbench.arguments import whole_number
from workbench.errors import HistoryError
from workbench.generation.recipe import Recipe
from workbench.generation.steps import Generation
from workbench.prompts.entries import Entry, entry_of, line_of, place_of
from workbench.prompts.history_page import history_page
from workbench.prompts.journal import DamagedLine, Journal
from workbench.prompts.lines import as_text, checked_mark, marks_of, token_columns


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
        recipe: Recipe | Mapping[str, object] | None = None,
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
        self._journal.append({"kind": "generation", **line_of(entry)})
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
                found[record["id"]] = entry_of(record)
            elif record.get("kind") == "mark" and record.get("id") in found:
                found[record["id"]] = replace(
                    found[record["id"]], **marks_of(record), **place_of(record)
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
        lines = [json.dumps(line_of(entry), ensure_ascii=False) + "\n" for entry in entries]
        _write(path, "".join(lines), "backslashreplace", self.path)
        return len(entries)

    def to_html(self, path: str | Path | None = None) -> str | None:
        """A page of all generations that needs nothing else and runs nothing; None if it is
        written to `path`.

        Every token is coloured by its probability. Whatever the texts hold is shown, not
        interpreted.
        """
        page = history_page(self.entries(), self.path.name)
        if path is None:
            return page
        _write(path, page, "strict", self.path)
        return None


# -- inside -------------------------------------------------------------------------------------

_COLUMNS = [
    "id", "time", "model", "prompt", "text", "thinking", "answer", "tokens", "logprob_mean",
    "finish_reason", "seconds", "rating", "note", "parent", "at", "name", "recipe",
]  # fmt: skip


def _write(path: str | Path, content: str, errors: str, source: Path) -> None:
    path = Path(path)
    if path.absolute() == source.absolute():
        raise HistoryError(f"{path} is the history itself; export to another file.")
    try:
        path.write_bytes(content.encode("utf-8", errors=errors))
    except OSError as error:
        raise HistoryError(f"{path} cannot be written ({error.strerror}).") from error

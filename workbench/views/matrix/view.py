"""A prompt matrix as a grid that fills while one watches: texts, ratings, notes."""

from __future__ import annotations

import textwrap
import time
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import pandas as pd
import traitlets
from matplotlib.figure import Figure

from workbench.errors import GenerationError, HistoryError
from workbench.generation.recipe import Recipe
from workbench.generation.steps import FINISH_REASONS, Step
from workbench.generation.turn import ask_turn
from workbench.prompts.matrix_cells import Cell, Result
from workbench.prompts.prompt_matrix import PromptMatrix
from workbench.views.shared.generating import GeneratingView
from workbench.views.shared.news import PAUSE, layers_told
from workbench.views.shared.printing import PrintFigure, for_print
from workbench.views.shared.scripts import script
from workbench.views.shared.widget import Answer

MOST_IN_FIGURE = 240  # characters of a text
MOST_ROWS, MOST_COLUMNS = 12, 5  # of a figure


class PromptMatrixView(GeneratingView):
    """The cells of a matrix: one row per prompt, one column per setting and model.

    Run does what is missing in a thread; the selected cell shows its tokens by probability.

    Parameters
    ----------
    matrix

    Attributes
    ----------
    cell : int
        The selected cell, -1 for none; as in `table`.
    running : bool
    doing : str
        The layer that a model on disk has run last, while it generates; else "".
    """

    _esm = script("matrix")
    cell = traitlets.Int(-1).tag(sync=True)
    running = traitlets.Bool(False).tag(sync=True)
    doing = traitlets.Unicode("").tag(sync=True)

    def __init__(self, matrix: PromptMatrix, **settings: Any) -> None:
        self.matrix = matrix
        self._written: list[list[Any]] = []  # of the cell that runs: [text, span] of every step
        self._sent = 0
        self._sent_at = 0.0
        super().__init__(**settings)
        matrix.watchers.append(self._hear)

    def start(self) -> None:
        """Generate the missing cells; returns at once.

        Raises
        ------
        GenerationError
            If the matrix is running, or another thread generates with one of the models.
        """
        self._require_idle()
        for model in self.matrix.models.values():
            ask_turn(model)
        self._error = ""
        self._begin(lambda: self.matrix.run(self._stop, progress=False, around=self._telling))
        self._tell_progress()

    def wait(self, timeout: float | None = None) -> pd.DataFrame:
        """Wait for the run to end and return `table`."""
        super().wait(timeout)
        return self.table()

    def close(self) -> None:
        """Stop, wait for the end of the token that is computed, and let go of the matrix."""
        if self._hear in self.matrix.watchers:
            self.matrix.watchers.remove(self._hear)
        super().close()

    def table(self) -> pd.DataFrame:
        """One row per cell; see `PromptMatrix.table`."""
        return self.matrix.table()

    def figure(self) -> Figure:
        """The grid for print: its first rows and columns, long texts cut."""
        matrix = self.matrix
        columns, rows = self._columns()[:MOST_COLUMNS], matrix.variants[:MOST_ROWS]
        texts = [[""] * len(columns) for _ in rows]
        for cell in matrix.cells:
            row, column = self._place(cell)
            if row < len(rows) and column < len(columns):
                result = matrix.result(cell)
                stars = "\n" + "★" * result.rating if result.rating else ""
                said = result.answer or result.text or result.error or result.state
                texts[row][column] = _for_print(said) + stars
        names = [_for_print("\n".join(row.values())) for row in rows]
        heads = [_for_print(" · ".join(column)) for column in columns]
        lines = [
            max(text.count("\n") + 2 for text in [*row, names[n]]) for n, row in enumerate(texts)
        ]
        heights = [2.0, *lines]  # in lines of print
        figure = PrintFigure(figsize=(2.5 * (len(columns) + 1), 0.4 + 0.14 * sum(heights)))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        grid = axes.table(
            cellText=[
                ["", *heads],
                *([name, *row] for name, row in zip(names, texts, strict=True)),
            ],
            bbox=(0.01, 0.01, 0.98, 0.9),
            cellLoc="left",
        )
        grid.auto_set_font_size(False)
        for (row, _), box in grid.get_celld().items():
            box.set_height(heights[row] / sum(heights))
            box.set_edgecolor("0.8")
            box.PAD = 0.03
            box.get_text().set(fontsize=7, fontweight="normal" if row else "bold")
        left = len(matrix.variants) - len(rows), len(self._columns()) - len(columns)
        more = f"; {left[0]} more rows and {left[1]} more columns" if any(left) else ""
        title = for_print(textwrap.shorten(matrix.template.text, 100), 100)
        figure.suptitle(f"{title}{more}", fontsize=8)
        return figure

    # -- what the page asks ---------------------------------------------------------------------

    def questions(self) -> list[dict[str, Any]]:
        """For a static page: the grid, and every finished cell's tokens."""
        cells = [c.place for c in self.matrix.cells if self.matrix.result(c).state == "done"]
        return [{"kind": "want"}, *({"kind": "detail", "cell": place} for place in cells)]

    def answer(self, question: dict[str, Any]) -> Answer | None:
        """Act on a button; a page that is new gets all there is to show."""
        kind = question.get("kind")
        if kind == "want":
            return self._state(), []
        if kind == "detail":
            return self._detail(question["cell"]), []
        if self._settled(question):
            return None
        try:
            if kind == "run" and not self.running:
                self.start()
            elif kind == "rate":
                self.matrix.rate(question["cell"], question.get("rating"), question.get("note"))
        except (GenerationError, HistoryError) as error:
            self._fail(str(error))
            self._tell_progress()
        return None

    def _state(self) -> dict[str, Any]:
        matrix = self.matrix
        return {
            "kind": "state",
            "template": matrix.template.text,
            "variables": list(matrix.variables),
            "rows": matrix.variants,
            "columns": self._columns(),
            "cells": [[*self._place(cell), self._shown(cell)] for cell in matrix.cells],
            "path": "" if matrix.path is None else matrix.path.name,
            "stale": len(matrix.stale),
            **self._progress(),
        }

    def _columns(self) -> list[list[str]]:
        """Model (where there are several) and setting of each column."""
        several = len(self.matrix.models) > 1
        return [
            [*([model] if several else []), setting]
            for model in self.matrix.models
            for setting in self.matrix.settings
        ]

    def _place(self, cell: Cell) -> tuple[int, int]:
        """Row and column of a cell: cells come by model, then prompt, then setting."""
        rows, settings = len(self.matrix.variants), len(self.matrix.settings)
        model, rest = divmod(cell.place, rows * settings)
        row, setting = divmod(rest, settings)
        return row, model * settings + setting

    def _shown(self, cell: Cell) -> dict[str, Any]:
        result = self.matrix.result(cell)
        return {
            "state": result.state,
            "thinking": result.thinking,
            "answer": result.answer,
            "tokens": len(result.tokens.get("texts", [])),
            "logprob_mean": result.logprob_mean,
            "reason": FINISH_REASONS.get(result.finish_reason, result.finish_reason),
            "seconds": result.seconds,
            "rating": result.rating,
            "note": result.note,
            "error": result.error,
            "written": list(self._written) if result.state == "running" else [],
        }

    def _detail(self, place: int) -> dict[str, Any]:
        cell = self.matrix.cells[place]
        result = self.matrix.result(cell)
        tokens = result.tokens
        python = ""
        if result.state == "done":
            try:
                python = Recipe.from_dict(result.recipe).to_python(result.text)
            except GenerationError:  # written by another version
                python = ""
        return {
            "kind": "detail",
            "cell": place,
            "system": cell.system,
            "prompt": cell.prompt,
            "python": python,
            **{
                name: tokens.get(name, [])
                for name in ("texts", "cuts", "pieces", "logprobs", "spans")
            },
        }

    # -- news -----------------------------------------------------------------------------------

    def _hear(self, cell: Cell, result: Result, step: Step | None) -> None:
        """From the matrix, in whatever thread it runs."""
        if step is not None:
            self._written.append([step.text, step.span])
            if time.perf_counter() - self._sent_at >= PAUSE:
                self._flush(cell)
            return
        if result.state == "running":
            self._written, self._sent, self._sent_at = [], 0, 0.0  # the first step is shown at once
        self.send({"kind": "cell", "cell": cell.place, "shown": self._shown(cell)})
        self._tell_progress()

    def _telling(self, model: Any) -> AbstractContextManager:
        return layers_told(model, partial(setattr, self, "doing"))

    def _flush(self, cell: Cell) -> None:
        new = self._written[self._sent :]
        self.send({"kind": "more", "cell": cell.place, "from": self._sent, "written": new})
        self._sent, self._sent_at = len(self._written), time.perf_counter()

    def _progress(self) -> dict[str, Any]:
        states = [self.matrix.result(cell).state for cell in self.matrix.cells]
        return {"done": states.count("done"), "failed": states.count("error"), "error": self._error}

    def _tell_progress(self) -> None:
        self.send({"kind": "progress", **self._progress()})

    def _ended(self) -> None:
        self._tell_progress()


def _for_print(text: str) -> str:
    """In short lines, and cut."""
    short = text if len(text) <= MOST_IN_FIGURE else text[: MOST_IN_FIGURE - 1] + "…"
    return for_print(short, 38)

"""A template with variables × settings × models: every cell generated, rated, and kept in a file."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from workbench.arguments import whole_number
from workbench.conversation import THINKING_SUFFIX
from workbench.errors import GenerationError, HistoryError, ServerError, WorkbenchError
from workbench.generation.sampling import Sampling
from workbench.generation.steps import Generation, Step
from workbench.generation.stop_strings import checked_stop_strings
from workbench.generation.turn import held
from workbench.prompts.journal import Journal
from workbench.prompts.lines import checked_mark, marks_of, token_columns
from workbench.prompts.matrix_cells import WORDS, Cell, Result, column_of, key_of, result_of
from workbench.prompts.matrix_inputs import (
    checked_models,
    checked_settings,
    made_by,
    one_of,
    opened,
)
from workbench.prompts.models import Model
from workbench.prompts.presets import Preset
from workbench.prompts.prompt_template import Template, checked_variants

News = Callable[[Cell, Result, Step | None], None]


class PromptMatrix:
    """The same template under several values, settings and models.

    >>> matrix = wb.PromptMatrix(
    ...     "Translate into {{language}}: {{text}}",
    ...     {"language": ["French", "German"], "text": ["Good morning", "Good night"]},
    ...     settings=["greedy", "Pangu Pro MoE"],
    ...     models=pangu,
    ...     path="translations.jsonl",
    ... )
    >>> matrix.run()

    Parameters
    ----------
    template
        A text with {{variables}}; "\\{{" for the braces themselves.
    variants
        Lists of values by variable, of which every combination is taken; or the combinations
        themselves, as a list of dicts.
    settings
        Sampling settings by name, or a list of names of presets. One seed in all of them makes
        cells comparable.
    models
        A loaded model, or several by name. In the place of a model may stand a function that loads
        it: it is called when the model's turn comes and something is left to do, and the model is
        let go afterwards, so that only one is in memory.
    path
        A file to which every finished cell is written at once; another run, or another session,
        does only what is missing. None keeps the cells in memory.
    system
        A system message; may hold variables too. In chat mode only.
    mode
        "chat" or "raw".
    thinking, max_new_tokens, stop_strings
        As of `Pangu.stream`.

    Attributes
    ----------
    cells : tuple of Cell
    stale : list of dict
        Lines of the file that belong to another template, setting or model; they stay there.
    watchers : list of functions
        Called as `on_news` of `run` is, for every run, and for ratings and notes.

    Raises
    ------
    GenerationError
        For a template, variants, settings or models that do not fit each other.
    HistoryError
        For a path that cannot be written.
    """

    def __init__(
        self,
        template: str,
        variants: Mapping[str, Iterable[str]] | Sequence[Mapping[str, str]] | None = None,
        settings: Mapping[str, Sampling] | Sequence[str | Preset] | Sampling | None = None,
        models: Any = None,
        path: str | Path | None = None,
        *,
        system: str = "",
        mode: str = "chat",
        thinking: str = "slow",
        max_new_tokens: int = 128,
        stop_strings: str | Iterable[str] = (),
    ) -> None:
        self.template, self._system = Template(template), Template(system)
        self.mode, self.thinking = one_of("mode", mode, ("chat", "raw")), thinking
        one_of("thinking", thinking, tuple(THINKING_SUFFIX))
        if system and mode == "raw":
            raise GenerationError("raw text has no system message; write it into the template.")
        self.max_new_tokens = whole_number(
            "max_new_tokens", max_new_tokens, GenerationError, "1 or more"
        )
        self.stop_strings = checked_stop_strings(stop_strings)
        names = tuple(dict.fromkeys((*self.template.variables, *self._system.variables)))
        self.variables = names
        self.variants = checked_variants(variants, names)
        self.settings = checked_settings(settings)
        self._usual = settings is None  # those that a model is used with, as far as it takes them
        self.models = checked_models(models)
        self.cells = tuple(self._make_cells())
        self.stale: list[dict[str, Any]] = []
        self.watchers: list[News] = []
        self._results: dict[str, Result] = {}
        self._journal = None if path is None else Journal(path)
        self._lock = threading.Lock()
        self._read()

    def __repr__(self) -> str:
        done = sum(self.result(cell).state == "done" for cell in self.cells)
        return (
            f"PromptMatrix: {len(self.variants)} prompts × {len(self.settings)} settings × "
            f"{len(self.models)} models, {done} of {len(self.cells)} cells done"
        )

    @property
    def path(self) -> Path | None:
        """The file of the finished cells."""
        return None if self._journal is None else self._journal.path

    def result(self, cell: Cell | int) -> Result:
        """What came of a cell, given itself or its place."""
        return self._results.get(self._cell(cell).key, Result())

    def run(
        self,
        stop: threading.Event | None = None,
        on_news: News | None = None,
        progress: bool = True,
        around: Callable[[Model], AbstractContextManager] = nullcontext,
    ) -> pd.DataFrame:
        """Generate the cells that are missing, in order, and return `table`.

        An interruption, or `stop`, keeps the finished cells; the one in between begins again. A cell
        that fails tells why and the next one goes on; a server that fails ends its model's turn.

        Parameters
        ----------
        stop
            When set, nothing more is computed.
        on_news
            Called when a cell changes: with the cell, its result so far, and the step that came.
        progress
            Whether to show a bar.
        around
            Called with every model that is opened; what it gives is entered while its cells run.

        Raises
        ------
        GenerationError
            If the matrix is running already.
        """
        if not self._lock.acquire(blocking=False):
            raise GenerationError("this matrix is already running; stop it or wait.")
        try:
            missing = [cell for cell in self.cells if self.result(cell).state != "done"]
            on_news = self._news(on_news)
            with tqdm(total=len(missing), unit="cell", disable=not progress) as bar:
                for name in self.models:
                    todo = [cell for cell in missing if cell.model == name]
                    if todo and not (stop is not None and stop.is_set()):
                        self._run_model(name, todo, stop, on_news, bar, around)
        finally:
            self._lock.release()
        return self.table()

    def rate(self, cell: Cell | int, rating: int | None = None, note: str | None = None) -> None:
        """Rate a finished cell, write a note beside it, or both.

        Parameters
        ----------
        rating
            1 to 5; 0 takes the rating back.
        note
            "" takes the note back.

        Raises
        ------
        HistoryError
            For another rating, a cell that is not finished, or a file that cannot be written.
        """
        cell = self._cell(cell)
        result = self.result(cell)
        if result.state != "done":
            raise HistoryError(f"cell {cell.place} is not finished; there is nothing to rate.")
        mark = checked_mark(rating, note)
        if self._journal is not None:
            self._journal.append({"kind": "mark", "key": cell.key, **mark})
        self._tell(cell, replace(result, **marks_of(mark)), self._news(None))

    def table(self) -> pd.DataFrame:
        """One row per cell, in order.

        A variable has a column of its name; if that is the name of another column, such as "text",
        the column is called "{{text}}".
        """
        rows = []
        for cell in self.cells:
            result = self.result(cell)
            values = {column_of(name): value for name, value in cell.variables.items()}
            rows.append(
                {
                    "model": cell.model,
                    "setting": cell.setting,
                    **values,
                    "prompt": cell.prompt,
                    "state": result.state,
                    "text": result.text,
                    "thinking": result.thinking,
                    "answer": result.answer,
                    "tokens": len(result.tokens.get("texts", [])),
                    "logprob_mean": result.logprob_mean,
                    "finish_reason": result.finish_reason,
                    "seconds": result.seconds,
                    "rating": result.rating,
                    "note": result.note,
                    "error": result.error,
                    "recipe": result.recipe,
                }
            )
        frame = pd.DataFrame(rows, index=pd.RangeIndex(len(rows), name="cell"))
        return frame.astype({"rating": "Int64", "logprob_mean": float, "seconds": float})

    # -- inside ---------------------------------------------------------------------------------

    def _cell(self, cell: Cell | int) -> Cell:
        if isinstance(cell, Cell):
            return cell
        place = whole_number("the cell", cell, HistoryError, "its place in the matrix")
        if not 0 <= place < len(self.cells):
            raise HistoryError(f"there is no cell {place}; there are 0 to {len(self.cells) - 1}.")
        return self.cells[place]

    def _make_cells(self) -> Iterator[Cell]:
        place = 0
        for model in self.models:
            for values in self.variants:
                prompt, system = self.template.filled(values), self._system.filled(values)
                for setting, sampling in self.settings.items():
                    key = key_of(
                        model, prompt, system, self.mode, self.thinking, sampling.as_dict(),
                        self.max_new_tokens, self.stop_strings,
                    )  # fmt: skip
                    yield Cell(place, model, setting, values, prompt, system, key)
                    place += 1

    def _read(self) -> None:
        """Take what the file holds of these cells; tell what it holds besides."""
        if self._journal is None:
            return
        cells = {cell.key: cell for cell in self.cells}
        others: dict[str, dict[str, Any]] = {}
        for record in self._journal.read():
            key = record.get("key")
            if record.get("kind") == "cell" and isinstance(key, str):
                cell = cells.get(key)
                if cell is not None and made_by(record.get("recipe"), self.models[cell.model]):
                    self._results[key] = result_of(record)
                    others.pop(key, None)
                else:
                    others[key] = record
                    self._results.pop(key, None)
            elif record.get("kind") == "mark" and key in self._results:
                self._results[key] = replace(self._results[key], **marks_of(record))
        self.stale = list(others.values())
        if self.stale:
            known = len(self._results)
            warnings.warn(
                f"{self.path} also contains {len(self.stale)} cells of another template, variant, "
                "setting or model; they are kept but not shown. "
                f"{known} of the {len(self.cells)} cells of this matrix are done.",
                stacklevel=3,
            )

    def _run_model(
        self,
        name: str,
        todo: list[Cell],
        stop: threading.Event | None,
        on_news: News,
        bar: tqdm,
        around: Callable[[Model], AbstractContextManager],
    ) -> None:
        bar.set_description(name)
        try:
            with opened(self.models[name]) as pangu, held(pangu), around(pangu):
                for cell in todo:
                    if stop is not None and stop.is_set():
                        return
                    try:
                        self._run_cell(cell, pangu, stop, on_news)
                    except ServerError:
                        raise
                    except WorkbenchError as error:
                        self._tell(cell, Result("error", error=str(error)), on_news)
                    bar.update()
        except WorkbenchError as error:  # of loading, or of a server: no cell of this model can run
            for cell in todo:
                if self.result(cell).state != "done":
                    self._tell(cell, Result("error", error=str(error)), on_news)

    def _run_cell(
        self, cell: Cell, pangu: Model, stop: threading.Event | None, on_news: News
    ) -> None:
        prompt: Any = cell.prompt
        if self.mode == "chat":
            prompt = [{"role": "user", "content": cell.prompt}]
            if cell.system:
                prompt.insert(0, {"role": "system", "content": cell.system})
        self._tell(cell, Result("running"), on_news)
        started = time.perf_counter()
        stream = None
        try:
            sampling = None if self._usual else self.settings[cell.setting]
            stream = pangu.stream(
                prompt, self.max_new_tokens, sampling, self.thinking, stop, 0,
                stop_strings=self.stop_strings,
            )  # fmt: skip
            for step in stream:
                on_news(cell, self.result(cell), step)
            generation = stream.generation
            if generation.finish_reason == "stopped":  # it is not what the recipe gives
                self._tell(cell, Result(), on_news)
                return
            self._keep(cell, generation, time.perf_counter() - started, on_news)
        finally:
            if stream is not None:
                stream.close()
            if self.result(cell).state == "running":  # interrupted
                self._tell(cell, Result(), on_news)

    def _keep(self, cell: Cell, generation: Generation, seconds: float, on_news: News) -> None:
        result = Result(
            state="done",
            text=generation.text,
            answer=generation.answer,
            thinking=generation.thinking,
            finish_reason=generation.finish_reason,
            seconds=round(seconds, 3),
            tokens=token_columns(generation.steps),
            recipe=generation.recipe.as_dict(),
        )
        if self._journal is not None:
            self._journal.append(
                {"kind": "cell", "key": cell.key, "model": cell.model, "setting": cell.setting}
                | {"variables": cell.variables, "prompt": cell.prompt}
                | {name: getattr(result, name) for name in (*WORDS, "rating", "seconds")}
                | {"recipe": result.recipe, "tokens": result.tokens}
            )
        self._tell(cell, result, on_news)

    def _news(self, on_news: News | None) -> News:
        """Calls all who want to hear."""

        def tell(cell: Cell, result: Result, step: Step | None) -> None:
            for call in [*self.watchers, *([] if on_news is None else [on_news])]:
                call(cell, result, step)

        return tell

    def _tell(self, cell: Cell, result: Result, on_news: News) -> None:
        self._results[cell.key] = result
        on_news(cell, result, None)

"""The same prompt under several settings, models or precisions, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import pandas as pd
import traitlets
from matplotlib.figure import Figure

from workbench.errors import GenerationError, HistoryError
from workbench.generation.sampling import Sampling
from workbench.generation.steps import Generation
from workbench.generation.turn import ask_turn, held
from workbench.prompts.history import History
from workbench.prompts.models import Model
from workbench.views.comparison.columns import SAMPLING, checked_columns, named_columns
from workbench.views.comparison.differences import comparable, differences, first_difference
from workbench.views.shared.generating import GeneratingView
from workbench.views.shared.news import PAUSE, News, layers_told, settle, step_message
from workbench.views.shared.printing import PrintFigure, for_print
from workbench.views.shared.scripts import script
from workbench.views.shared.widget import Answer
from workbench.views.shared.words import reason, require_question

SHARED = ("prompt", "mode", "seed", "max_new_tokens", "stop_strings")  # by all columns


class ComparisonView(GeneratingView):
    """One prompt, several columns: settings, models or precisions, with the same random numbers.

    All columns stream at once, token by token in turn. The place where a column first differs from
    the column of reference is marked, and every token that is not in that one.

    Parameters
    ----------
    models
        A loaded model, or a dict {label: model}; also what `workbench.connect` gives.
    prompt
        A user's turn, a list of messages, or with mode="raw" a text.
    columns
        A dict {label: Sampling, or settings of a column}, or a list of such settings: "label",
        "model" (a label of `models`), "thinking" and those of `Sampling` but for the seed. By
        default every model with the usual settings; of one model the usual settings and greedy.
    history
        Gets what is generated, under the names of the columns.

    Attributes
    ----------
    prompt : str
    mode : "chat" or "raw"
    columns : list of dict
    seed, max_new_tokens : int
        The same for all columns. Every place of an answer has its own random number, so columns
        that agree so far draw with the same one.
    stop_strings : list of str
    reference : int
        The column that the others are compared with.
    running : bool
    doing : str
        The layer that a model on disk has run last, while it generates; else "".
    generations : dict of Generation
        By label, what has ended.

    Raises
    ------
    GenerationError
        For settings of another name, a label that stands twice, or a model that is not there.
    """

    _esm = script("comparison")
    prompt = traitlets.Unicode("").tag(sync=True)
    mode = traitlets.Enum(["chat", "raw"], "chat").tag(sync=True)
    columns = traitlets.List(traitlets.Dict()).tag(sync=True)
    seed = traitlets.Int(0).tag(sync=True)
    max_new_tokens = traitlets.Int(128).tag(sync=True)
    stop_strings = traitlets.List(traitlets.Unicode()).tag(sync=True)
    reference = traitlets.Int(0).tag(sync=True)
    running = traitlets.Bool(False).tag(sync=True)
    doing = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self,
        models: Model | Mapping[str, Model],
        prompt: str | Sequence[Mapping[str, str]] = "",
        columns: Mapping[str, Sampling | Mapping[str, Any]] | Sequence[Mapping[str, Any]] | None = None,
        history: History | None = None,
        **settings: Any,
    ) -> None:  # fmt: skip
        self.history = history
        self.models = dict(models) if isinstance(models, Mapping) else {models.name: models}
        if not self.models:
            raise GenerationError("there is no model to compare; pass one, or {label: model}.")
        self.generations: dict[str, Generation] = {}
        self._before: list[dict[str, str]] = []  # turns of the conversation before the prompt
        if not isinstance(prompt, str):
            turns = [dict(turn) for turn in prompt]
            prompt = turns.pop()["content"] if turns and turns[-1]["role"] == "user" else ""
            self._before = turns
        self._shown: dict[str, list[dict[str, Any]]] = {}  # steps on screen, by label
        self._statuses: dict[str, dict[str, Any]] = {}
        self._weights: dict[str, str] = {}  # fingerprints, by label
        self._made: dict[str, dict[str, Any]] = {}  # what was asked for each text
        super().__init__(
            prompt=prompt, columns=named_columns(columns, list(self.models)), **settings
        )
        self.observe(self._follow_columns, "columns")
        self.observe(self._follow, ["reference", *SHARED])

    # -- from Python ----------------------------------------------------------------------------

    def start(self) -> None:
        """Generate all columns; returns at once.

        Raises
        ------
        GenerationError
            If they are being generated, or another thread generates with one of their models.
        """
        self._require_idle()
        for model in self._used_models():
            ask_turn(model)
        self._error = ""
        self._begin(self._generate)

    def wait(self, timeout: float | None = None) -> dict[str, Generation] | None:
        """Wait for the end and return `generations`; None after an error, which is on screen."""
        super().wait(timeout)
        return None if self._error else self.generations

    @property
    def recipes(self) -> dict[str, Any]:
        """What it takes to generate every column again, by label."""
        return {label: generation.recipe for label, generation in self.generations.items()}

    def table(self) -> pd.DataFrame:
        """One row per column: its text, and how it differs from the column of reference.

        Columns: label, model, thinking and the settings of `Sampling` but for the seed, as they
        were when the text was generated; tokens, first_difference (the token's place; none if they
        are the same), same (share of tokens that are in the reference too, in its order),
        logprob_mean (natural logarithm), finish_reason, text. Tokens of other weights than the
        reference's are compared by what they say, for their ids may mean something else.
        """
        rows = []
        reference = self._reference()
        for column in self.columns:
            generation = self.generations.get(column["label"])
            if generation is None:
                continue
            base, tokens = comparable(reference, generation)
            others = differences(base, tokens)
            recipe, count = generation.recipe, len(tokens)
            sampling = recipe.sampling.as_dict()
            known = [step.logprob for step in generation.steps]
            rows.append(
                {
                    "label": column["label"],
                    "model": self._made[column["label"]]["model"],
                    "thinking": recipe.thinking,
                    **{name: sampling[name] for name in SAMPLING},
                    "tokens": count,
                    "first_difference": first_difference(base, tokens),
                    "same": 1 - len(others) / count if count else 1.0,
                    "logprob_mean": sum(known) / len(known) if known else None,
                    "finish_reason": generation.finish_reason,
                    "text": generation.text,
                }
            )
        frame = pd.DataFrame(rows)
        return frame.astype({"first_difference": "Int64"}) if rows else frame

    def figure(self) -> Figure:
        """All texts beside one another for print."""
        count = max(1, len(self.columns))
        figure = PrintFigure(figsize=(max(6, 3 * count), 3), layout="constrained")
        for place, column in enumerate(self.columns):
            generation = self.generations.get(column["label"])
            text = f"{column['label']}\n\n{generation.text if generation else ''}"
            axes = figure.add_subplot(1, count, place + 1)
            axes.axis("off")
            axes.text(0, 1, for_print(text, 46), va="top", fontsize=8)
        figure.suptitle(for_print(self.prompt, 46 * count), fontsize=9)
        return figure

    # -- what the page asks ---------------------------------------------------------------------

    def answer(self, question: dict[str, Any]) -> Answer | None:
        """Act on a button; a page that is new gets all there is to show."""
        kind = question.get("kind")
        if kind == "want":
            return self._state(), []
        if self._settled(question):
            return None
        if kind == "generate" and not self.running:
            try:
                self.start()
            except GenerationError as error:
                self._fail(str(error))
                self._mark()
        return None

    def _state(self) -> dict[str, Any]:
        return {
            "kind": "state",
            "models": list(self.models),
            "before": len(self._before),
            "steps": self._shown,
            "statuses": self._statuses,
            "weights": self._weights,
            "error": self._error,
            **self._marks(),
        }

    # -- generating -----------------------------------------------------------------------------

    def _generate(self) -> None:
        """In the thread: one token of every column in turn, so that all are seen to grow."""
        if not self.prompt.strip() and not self._before:
            raise GenerationError("the prompt is empty; type something first.")
        if self.mode == "chat" and not self.prompt.strip():
            require_question(self._before)
        with ExitStack() as turns:
            for model in self._used_models():
                turns.enter_context(held(model))
                turns.enter_context(layers_told(model, partial(setattr, self, "doing")))
            self._run({column["label"]: self._stream(column) for column in self.columns})

    def _used_models(self) -> list[Any]:
        """Those that some column names."""
        return [self.models[label] for label in dict.fromkeys(c["model"] for c in self.columns)]

    def _run(self, streams: Mapping[str, Any]) -> None:
        self.generations = {}
        self._shown = {label: [] for label in streams}
        self._statuses = {label: {} for label in streams}
        self._made = {column["label"]: self._asked(column) for column in self.columns}
        self._weights = {label: stream.recipe.fingerprint for label, stream in streams.items()}
        self.send(self._state())
        pause = PAUSE * len(streams)
        news = {label: News(self._sender(label), pause=pause) for label in streams}
        going = list(streams)
        try:
            while going:
                for label in list(going):
                    step = next(streams[label], None)
                    if step is None:
                        going.remove(label)
                        self._finish(label, streams[label].generation, news[label])
                        continue
                    message = step_message(step)
                    self._shown[label].append(message)
                    news[label].add(message, lambda label=label: {"tokens": news[label].count})
        finally:
            for label in going:
                streams[label].close()
                self._finish(label, streams[label].generation, news[label])

    def _stream(self, column: Mapping[str, Any]) -> Any:
        sampling = Sampling(seed=self.seed, **{name: column[name] for name in SAMPLING})
        asked = [{"role": "user", "content": self.prompt}] if self.prompt.strip() else []
        return self.models[column["model"]].stream(
            self.prompt if self.mode == "raw" else [*self._before, *asked],
            self.max_new_tokens,
            sampling,
            thinking=column["thinking"],
            stop=self._stop,
            stop_strings=tuple(self.stop_strings),
        )

    def _asked(self, column: Mapping[str, Any]) -> dict[str, Any]:
        """All that a column's text depends on."""
        return {**column, **{name: getattr(self, name) for name in SHARED}}

    def _finish(self, label: str, generation: Generation, news: News) -> None:
        self.generations[label] = generation
        if self.history is not None and generation.steps:
            try:
                seconds = sum(step.seconds for step in generation.steps)  # without the others'
                self.history.add(generation, seconds=seconds, name=f"compared: {label}")
            except HistoryError as error:
                self._fail(str(error))
        self._statuses[label] = {
            "tokens": news.count,
            "reason": reason(generation),
            "tail": generation.tail,
        }
        news.flush(self._statuses[label])
        shown = self._shown[label]
        first = settle(shown, generation.steps)
        if first < len(shown):
            self._sender(label)(first, shown[first:], self._statuses[label])

    def _sender(self, label: str) -> Any:
        def send(start: int, steps: list[Any], status: dict[str, Any]) -> None:
            content = {"kind": "steps", "label": label, "from": start, "steps": steps}
            self.send({**content, "status": status})

        return send

    def _ended(self) -> None:
        self._mark()

    # -- differences ----------------------------------------------------------------------------

    def _follow(self, _change: Any) -> None:
        self._error = ""  # something else was done since
        self._mark()

    def _mark(self) -> None:
        self.send({"kind": "marks", "error": self._error, **self._marks()})

    def _marks(self) -> dict[str, Any]:
        """By label, the tokens that are not in the column of reference; none while it runs.

        And the columns of which something asked is no longer that of their text.
        """
        if self.running:
            return {"differences": {}, "changed": []}
        base = self._reference()
        found = {
            label: differences(*comparable(base, generation))
            for label, generation in self.generations.items()
        }
        changed = [
            column["label"]
            for column in self.columns
            if column["label"] in found and self._asked(column) != self._made[column["label"]]
        ]
        return {"differences": found, "changed": changed}

    def _reference(self) -> Generation | None:
        place = min(self.reference, len(self.columns) - 1)
        return self.generations.get(self.columns[place]["label"])

    # -- columns --------------------------------------------------------------------------------

    def _follow_columns(self, change: dict[str, Any]) -> None:
        """What was generated stays with its column: renamed with it, gone with it.

        A column with another label and other settings is another column.
        """
        before = [column["label"] for column in change["old"]]
        now = [column["label"] for column in change["new"]]
        pairs = zip(change["old"], change["new"], strict=True) if len(before) == len(now) else ()
        renamed = {
            old["label"]: new["label"]
            for old, new in pairs
            if new["label"] not in before and {**old, "label": new["label"]} == new
        }
        names = {label: label if label in now else renamed.get(label) for label in before}

        def left(kept: dict[str, Any]) -> dict[str, Any]:
            return {names[label]: kept[label] for label in kept if names[label] is not None}

        self.generations, self._shown = left(self.generations), left(self._shown)
        self._statuses, self._weights = left(self._statuses), left(self._weights)
        self._made = {label: {**made, "label": label} for label, made in left(self._made).items()}
        self._error = ""
        reference = names.get(before[min(self.reference, len(before) - 1)])
        self.reference = 0 if reference is None else now.index(reference)
        if now != before:
            self.send(self._state())
        else:
            self._mark()

    @traitlets.validate("columns")
    def _valid_columns(self, proposal: dict[str, Any]) -> list[dict[str, Any]]:
        if self.running:
            raise GenerationError("the columns are being generated; stop them first.")
        return checked_columns(proposal["value"], self.models)

    @traitlets.validate("reference")
    def _valid_reference(self, proposal: dict[str, Any]) -> int:
        if not 0 <= proposal["value"] < len(self.columns):
            raise GenerationError(
                f"there is no column {proposal['value']}; expected 0 to {len(self.columns) - 1}."
            )
        return proposal["value"]

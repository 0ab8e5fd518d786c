"""What is open below the answer: routing or attention of what was generated, or a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anywidget
import traitlets

from workbench.errors import WorkbenchError
from workbench.generation.turn import ask_turn
from workbench.prompts.presets import CHECKPOINT
from workbench.traces.trace import Trace
from workbench.views.attention.view import AttentionView
from workbench.views.comparison.view import ComparisonView
from workbench.views.playground import engine
from workbench.views.playground.state import SAMPLING, PlaygroundState
from workbench.views.routing.view import RoutingView
from workbench.views.shared.generating import GeneratingView
from workbench.views.shared.news import layers_told

INSIDE = ("routing", "attention")  # they show what happened inside


class Panels(PlaygroundState):
    """Makes, follows and closes the widget inside; see `Playground` for the traits."""

    token = traitlets.Int(-1).tag(sync=True)
    panel = traitlets.Enum(
        ["", "routing", "attention", "compare", "python", "history"], ""
    ).tag(sync=True)  # fmt: skip
    inside = anywidget.WidgetTrait().tag(sync=True)

    _comparison: ComparisonView | None = None

    def __init__(self, *what: Any) -> None:
        self.trace: Trace | None = None  # of the branch that is shown, once it was looked into
        self._stream: Any = None  # of what is on screen, with what was recorded
        self._loading: dict[str, GeneratingView] = {}  # inside, by id, that no page has loaded yet
        super().__init__(*what)
        self.observe(self._open_panel, "panel")
        self.observe(self._select_inside, "token")

    def _open_panel(self, _change: Any) -> None:
        """Make the widget that the panel shows; routing and attention read the text once."""
        if self.inside is not None and self.inside is self._comparison:
            if self.inside.running:  # it keeps its texts, and the model is free
                self.inside.stop()
                self.inside.wait()
                self.inside._fail("It was stopped because you left its panel.")
            self.inside = None
        else:
            self._leave_inside()
        if self.panel:
            self._error = ""
            self.send({"kind": "note", "text": self._made(), "bad": False})
        if self.panel in INSIDE and engine.is_remote(self.pangu):
            self._error, self.panel = self.pangu.missing(self.panel), ""
            self.send({"kind": "tree", **self._tree()})
        elif self.panel == "compare":
            self._comparison = self._comparison or self.compare()  # with its texts, if it was open
            self.inside = self._comparison
        elif self.panel in INSIDE and self.generation is not None:
            if self.trace is not None:
                self._look_inside()
            elif not self.running:
                self._status = {**self._status, "doing": "reading the text again"}
                self.send({"kind": "status", "status": self._status})
                self._begin(self._look_inside)

    def _compare_anew(self) -> None:
        """Begin the comparison in the panel again, with what is asked now."""
        if self._comparison is not None:
            self._comparison.close()
            self.inside = None if self.inside is self._comparison else self.inside
        self._comparison = None
        self._open_panel(None)

    def _look_inside(self) -> None:
        """Routing or attention of the generation on screen, at the selected token."""
        generation = self.branches.current.generation
        try:
            if self.trace is None:
                from workbench.tracing.capture import trace_generation  # torch

                if self._made_elsewhere():
                    engine.require_same_tokens(generation, self.pangu)
                stream, self._stream = self._stream, None
                if stream is not None:
                    self.trace = stream.trace()
                else:
                    with layers_told(self.pangu, self._tell_layer):
                        self.trace = trace_generation(self.pangu, generation, self._stop)
        finally:
            self._status.pop("doing", None)
        place = generation.prompt_length + max(self.token, 0)
        if self.panel == "routing":
            inside = RoutingView(self.trace, token=place if self.token >= 0 else -1)
        elif self.panel != "attention":  # another one was opened meanwhile
            return
        else:
            inside = AttentionView(self.trace, token=place)
        inside.observe(self._select_outside, "token")
        self._loading[inside.model_id] = inside
        self.inside = inside

    def _leave_inside(self) -> None:
        """Close what is inside; where a page is still loading it, which closing would break, after that."""
        left, self.inside = self.inside, None
        if left is not None and not (self._pages and left.model_id in self._loading):
            self._loading.pop(left.model_id, None)
            left.close()

    def _loaded(self, model_id: str) -> None:
        """A page has loaded a widget, or there is none any longer; what was left meanwhile is closed."""
        inside = self._loading.pop(model_id, None)
        if inside is not None and inside is not self.inside:
            inside.close()

    def _select_outside(self, change: Any) -> None:
        """The token that was clicked inside is selected outside, if it is of the answer."""
        place = change["new"] - self.branches.current.generation.prompt_length
        if 0 <= place < len(self._shown):
            self.token = place

    def _select_inside(self, _change: Any) -> None:
        if self.token >= 0 and self.panel in INSIDE and self.inside is not None:
            self.inside.token = self.branches.current.generation.prompt_length + self.token

    def _look_away(self) -> None:
        """Drop recording, trace and widget of what was on screen; their panel waits for the next."""
        self.trace = self._stream = None
        self.token = -1
        if self.panel in INSIDE:
            self._leave_inside()

    def _follow(self) -> None:
        """Show in the open panel what happened in the text on screen, if reading it is a moment's work."""
        current, pangu = self.branches.current, self.pangu
        if engine.is_remote(pangu):
            self.panel = ""
            return
        tokens = 0 if current is None else len(current.generation.token_ids)
        if not engine.reads_quickly(pangu, tokens):
            self.panel = ""
        else:
            self._stop.clear()
            try:
                ask_turn(self.pangu)
                self._look_inside()
            except WorkbenchError as error:
                self._error, self.panel = str(error), ""
                self.send({"kind": "tree", **self._tree()})

    def compare(self, columns: Any = None) -> ComparisonView:
        """What is asked under several settings, side by side; by default these and greedy, or
        what is recommended where these are greedy.

        Parameters
        ----------
        columns
            See `ComparisonView`.
        """
        if columns is None:
            now = {name: getattr(self, name) for name in SAMPLING if name != "seed"}
            now["thinking"] = self.thinking
            columns = {"these settings": now, **self._other_settings(now)}
        return ComparisonView(
            self.pangu,
            self.text if self.mode == "raw" else self.conversation,
            columns,
            history=self.history,
            mode=self.mode,
            seed=self.seed,
            max_new_tokens=self.max_new_tokens,
            stop_strings=self.stop_strings,
        )

    def _other_settings(self, now: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """To compare these settings with: greedy, or what is recommended where they are greedy."""
        if now["temperature"] > 0:
            return {"greedy": {**now, "temperature": 0.0}}
        recommended = (CHECKPOINT, "Pangu Pro MoE")
        name = next(
            name for name in recommended
            if name in self.presets.built_in() and self.presets[name].sampling.temperature > 0
        )  # fmt: skip
        settings = self._preset_settings(name)
        del settings["logit_bias"]
        return {name: {**now, **settings}}

"""One page for one trace: its experts, its heads and their attention, with one selection."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ipywidgets
import pandas as pd
import traitlets
from matplotlib.figure import Figure

from workbench.errors import TraceError
from workbench.traces.trace import Trace
from workbench.views.attention.view import AttentionView
from workbench.views.heads.view import HeadScoresView
from workbench.views.linking import Link
from workbench.views.routing.view import RoutingView
from workbench.wording import counted, titled

SELECTION = ("token", "layer", "head")


class Explorer(ipywidgets.VBox):
    """Heads, attention and routing of a trace under each other, linked.

    A click on a head of the map opens its attention, a token that is selected in one panel is
    selected in all. A panel that the trace has no arrays for is left out, and the page says why.

    Parameters
    ----------
    trace
    scores
        What `head_scores(trace)` returned; worked out if not given.
    token, layer, head
        What is selected at first.

    Attributes
    ----------
    token, layer, head : int
        The selection; token is -1 if none is selected.
    heads, attention, routing : HeadScoresView, AttentionView, RoutingView, or None
        The panels.
    missing : list of str
        What is not shown, and why.

    Raises
    ------
    TraceError
        For a trace with neither routing nor attention, or a selection that is not there.
    """

    token = traitlets.Int(-1)
    layer = traitlets.Int(0)
    head = traitlets.Int(0)

    def __init__(self, trace: Trace, scores: pd.DataFrame | None = None, **selection: int) -> None:
        if unknown := selection.keys() - set(SELECTION):
            raise TypeError(
                f"Explorer has no setting {sorted(unknown)[0]!r}; it has {', '.join(SELECTION)}."
            )
        self.trace, self.missing = trace, []
        self.heads = self.attention = self.routing = None
        super().__init__()
        if trace.attention_layers:
            self.heads = HeadScoresView(trace, scores)
            self.attention = AttentionView(trace)
            self.layer = trace.attention_layers[0]
        else:
            self.missing.append(
                'No heads and no attention: the trace was recorded with attention=None; trace again with attention="all".'
            )
        if trace.is_moe:
            self.routing = RoutingView(trace)
        else:
            self.missing.append(
                f"No routing: {titled(trace.model_name)} is a dense model without experts."
            )
        if not self.panels:
            raise TraceError("there is nothing to explore. " + " ".join(self.missing))
        for name, value in selection.items():
            setattr(self, name, value)
        self.link = Link(self, *self.panels.values())
        self._said = ipywidgets.HTML(layout={"margin": "2px 0 2px 10px"})
        self.children = [self._bar(), *self.panels.values()]
        self.observe(self._say, list(SELECTION))
        self._say()

    @property
    def panels(self) -> dict[str, Any]:
        """Title → view, from top to bottom."""
        named = {"Heads": self.heads, "Attention": self.attention, "Routing": self.routing}
        return {title: view for title, view in named.items() if view is not None}

    def figure(self) -> Figure:
        """The first panel for print."""
        return next(iter(self.panels.values())).figure()

    def to_html(
        self,
        path: str | Path | None = None,
        layers: str | Iterable[int] | None = None,
        heads: str | Iterable[int] | None = None,
    ) -> str | None:
        """One self-contained page, linked, without kernel or network; None if it is in `path`.

        Parameters
        ----------
        layers, heads
            Of these the page holds the attention, as in `AttentionView.to_html`; few make a small
            page.

        Raises
        ------
        TraceError
            For a layer or head that was not recorded, or without attention.
        """
        notes = [self._title(), *self.missing]
        return self.link.to_html(path, layers, heads, titles=self.panels, notes=notes)

    # -- inside -----------------------------------------------------------------------------------

    @traitlets.validate("token", "layer", "head")
    def _valid(self, proposal: dict[str, Any]) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        trace = self.trace
        size = {"token": trace.num_tokens, "layer": trace.num_layers, "head": trace.num_heads}[name]
        low = -1 if name == "token" else 0
        if not low <= value < size:
            raise TraceError(f"{name} {value} is out of range; expected {low} to {size - 1}.")
        return value

    def _bar(self) -> ipywidgets.Widget:
        buttons = []
        for title, view in self.panels.items():
            button = ipywidgets.ToggleButton(
                value=True,
                description=title,
                tooltip=f"show or hide: {title}",
                button_style="primary",  # a pressed one without a style is as grey as a disabled one
            )
            button.layout.width = "auto"

            def toggle(change: Any, view: Any = view) -> None:
                view.layout.display = None if change["new"] else "none"
                change["owner"].button_style = "primary" if change["new"] else ""

            button.observe(toggle, "value")
            buttons.append(button)
        missing = [ipywidgets.HTML(html.escape(text)) for text in self.missing]
        return ipywidgets.VBox([ipywidgets.HBox([*buttons, self._said]), *missing])

    def _title(self) -> str:
        return f"{titled(self.trace.model_name)}, {counted(self.trace.num_tokens)}"

    def _say(self, _change: Any = None) -> None:
        parts = [] if self.token < 0 else [f"token {self.token} “{self.trace.pieces[self.token]}”"]
        parts += [f"layer {self.layer}"] + ([f"head {self.head}"] if self.heads else [])
        self._said.value = html.escape(f"{self._title()} · {', '.join(parts)}")

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The widgets, and beside them a picture for readers that have no kernel."""
        bundle = super()._repr_mimebundle_(**kwargs)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        stream = io.BytesIO()
        self.figure().savefig(stream, format="png", dpi=80, bbox_inches="tight")
        data["image/png"] = base64.b64encode(stream.getvalue()).decode()
        return bundle

"""What every head attends to: all heads small, one large, and the text, linked."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import traitlets
from matplotlib.figure import Figure

from workbench.arguments import require_loaded
from workbench.errors import TraceError
from workbench.generation.turn import ask_turn
from workbench.traces.trace import Trace
from workbench.views.attention import limits, messages, saved_page, tables
from workbench.views.attention.figures import attention_figure, unfilled_figure
from workbench.views.attention.live import TracedModel, empty_recording, recording
from workbench.views.attention.recorded import Recorded, same_beginning, told_apart
from workbench.views.attention.selection import Selection
from workbench.views.shared.generating import GeneratingView
from workbench.views.shared.scripts import script
from workbench.views.shared.threads import end_earlier_run
from workbench.views.shared.widget import Answer
from workbench.wording import titled

if TYPE_CHECKING:
    from workbench.generation.sampling import Sampling


class AttentionView(GeneratingView):
    """Attention of every recorded head, worked out when it is looked at.

    The page gets the queries and keys of the head that it shows and works out every weight itself,
    exp(query · key / √head_dim - log of the row's sum): hovering and zooming need no kernel. Beside
    them comes the picture of a text over 128 tokens, in blocks if it has over 512. Small
    maps of all heads come layer by layer. Hovering shows, a click keeps; what is kept is a trait.

    Parameters
    ----------
    trace
        Recorded with attention.
    other
        A second trace of the same layers and heads that begins with the same tokens, for example
        of the model in another precision. It is compared as far as the tokens agree.

    Attributes
    ----------
    layer, head : int
        The head that is shown large.
    token : int
        The selected token, -1 for none.
    pins : list of int
        Tokens whose rows stay below the map.
    zoom : list of int
        [first row, end row, first column, end column] of the map; empty for the whole.
    scale : "linear", "log" or "row"
        Colours follow the weight, its logarithm over four decades, or the weight as a share of
        the strongest of its row.
    blocks : "max" or "mean"
        What a block of several tokens shows: its strongest weight, or the mean of those that are
        possible.
    sink : int
        So many first tokens, to which many heads attend by default, stand in a column apart, from
        0 to 100 %; the colours leave them out.
    compare : "none", "head" or "trace"
        Show the difference to another head of this trace, or to the same head of `other`.
    other_layer, other_head : int
        The head that is subtracted if `compare` is "head"; at first head 1 of the first recorded
        layer (head 0 if there is one only).
    running : bool
        Whether a generation is filling the view.
    doing : str
        The layer that a model on disk has run last, while it generates; else "".
    trace : Trace or None
        Of a live view, the recorded one once it has ended.

    Raises
    ------
    TraceError
        If a trace has no attention, or the two do not go together.
    """

    _esm = script("attention")
    layer = traitlets.Int(0).tag(sync=True)
    head = traitlets.Int(0).tag(sync=True)
    token = traitlets.Int(-1).tag(sync=True)
    pins = traitlets.List(traitlets.Int()).tag(sync=True)
    zoom = traitlets.List(traitlets.Int()).tag(sync=True)
    scale = traitlets.Enum(["linear", "log", "row"], "linear").tag(sync=True)
    blocks = traitlets.Enum(["max", "mean"], "max").tag(sync=True)
    sink = traitlets.Int(1).tag(sync=True)
    compare = traitlets.Enum(["none", "head", "trace"], "none").tag(sync=True)
    other_layer = traitlets.Int(0).tag(sync=True)
    other_head = traitlets.Int(0).tag(sync=True)
    running = traitlets.Bool(False).tag(sync=True)
    doing = traitlets.Unicode("").tag(sync=True)

    def __init__(self, trace: Trace, other: Trace | None = None, **settings: Any) -> None:
        live = isinstance(trace, Recorded)  # still to be filled
        self.recorded = trace if live else Recorded.of(trace)
        self.trace = None if live else trace
        self.other = None if other is None else Recorded.of(other)
        self.shared = self.other and same_beginning(self.recorded, self.other)
        self.names = (
            told_apart(self.recorded, self.other)
            if self.other
            else (titled(self.recorded.name), "")
        )
        # What the page is told comes in the order in which it happened, and nothing is half grown.
        self._turn = threading.RLock()
        first = self.recorded.layers[0]
        last = (self.shared or self.recorded.num_tokens) - 1  # that has something to show
        defaults = {"layer": first, "other_layer": first, "token": last}
        defaults["other_head"] = min(1, self.recorded.heads - 1)
        if other is not None:
            defaults["compare"] = "trace"
        super().__init__(**{**defaults, **settings})

    @classmethod
    def live(
        cls,
        pangu: TracedModel,
        prompt: Any,
        max_new_tokens: int = 128,
        attention: str | Sequence[int] = "all",
        sampling: Sampling | None = None,
        thinking: str = "slow",
        **settings: Any,
    ) -> AttentionView:
        """A view that fills while the model generates, in a thread.

        `stop()`, `close()`, an interrupt of the kernel and the end of the last page that shows it
        end the generation, and so does a new run of the notebook cell that began it; what came by
        then stays.

        When it has ended, `view.trace` is the recorded trace. No token is selected at first, where
        a view of a trace begins with its last one.

        Parameters
        ----------
        attention
            Layers that are recorded: "all" or a list of numbers.

        Raises
        ------
        TraceError
            For something else than a loaded model, or layers that are not there.
        TokenizerError
            For a prompt of no known kind, or an unknown `thinking`.
        GenerationError
            While another thread generates with the model.
        """
        require_loaded(pangu)
        empty = empty_recording(pangu, attention)
        ids = pangu.encode(prompt, thinking)
        end_earlier_run()
        ask_turn(pangu)
        view = cls(empty, **settings)
        view._begin(partial(view._run, pangu, ids, max_new_tokens, sampling))
        return view

    def append(
        self, pieces: Sequence[str], arrays: Mapping[str, np.ndarray], span: str = "answer"
    ) -> None:
        """Add tokens to the text, and to the page.

        Parameters
        ----------
        pieces
            One per new token.
        arrays
            query [layer, new token, head, head_dim] and key [layer, new token, kv_head, head_dim],
            after the rotary embedding, of the layers that are shown.
        span
            "prompt", "thinking" or "answer".
        """
        with self._turn:
            start = self.recorded.num_tokens
            self.recorded.append(pieces, arrays, span)
            self.send(*messages.more(self.recorded, self.layer, self.head, start, span))

    def wait(self, timeout: float | None = None) -> Trace | None:
        """Wait for the generation that is running and return its trace; an interrupt stops it."""
        super().wait(timeout)
        return self.trace

    # -- what the page asks ---------------------------------------------------------------------

    def answer(self, question: dict[str, Any]) -> Answer | None:
        """The text; queries and keys of a head; small maps of some heads of a layer."""
        kind = question.get("kind")
        if kind == "want":
            return self._everything(), []
        if kind == "head":
            return messages.head(question, self._selection())
        if kind == "thumbnails":
            return messages.small_maps(question, self._selection())
        self._settled(question)
        return None

    def _on_message(self, *message: Any) -> None:
        with self._turn:
            super()._on_message(*message)

    def _everything(self) -> dict[str, Any]:
        return messages.text(self._selection(), self._error)

    def _selection(self) -> Selection:
        return Selection.of(self)

    # -- a page without kernel ------------------------------------------------------------------

    def to_html(
        self,
        path: str | Path | None = None,
        layers: str | Iterable[int] | None = None,
        heads: str | Iterable[int] | None = None,
    ) -> str | None:
        """One self-contained page without kernel or network; None if it is written to `path`.

        Parameters
        ----------
        layers, heads
            Of these every head can be looked at in the page: lists of numbers, or "all". By
            default all, the selected ones first, as far as 8 MB go. Small maps of all heads and
            the subtracted head are there in any case. If the selected head is not among them, the
            page opens on one that is.

        Raises
        ------
        TraceError
            For a layer or head that was not recorded.
        """
        questions, opening = self.chosen(layers, heads)
        return self._page(questions, path, opening)

    def chosen(
        self, layers: str | Iterable[int] | None, heads: str | Iterable[int] | None
    ) -> tuple[Sequence[dict[str, Any]], dict[str, int]]:
        """For a page as in `to_html`: its questions, and {layer, head} if it opens on another head."""
        if layers is None and heads is None:
            return self.questions(), {}
        selection = self._selection()
        held, opening = saved_page.chosen_heads(selection, layers, heads)
        return saved_page.questions(selection, held), opening

    def questions(self) -> Sequence[dict[str, Any]]:
        """All that the page could ask; the selected head first, as far as a page may grow."""
        selection = self._selection()
        return saved_page.questions(selection, saved_page.usual_heads(selection))

    # -- the numbers on screen ------------------------------------------------------------------

    def table(self, panel: str = "row") -> pd.DataFrame:
        """The numbers of one panel as they are selected now.

        Parameters
        ----------
        panel
            "row": what `token` attends to; "column": which tokens attend to it; "pins": the rows
            of all pinned tokens; "map": every weight in the zoomed part; "heads": what `token`
            attends to most in every recorded head. While heads or traces are compared, all but
            "heads" also hold the other weight and the difference.

        Raises
        ------
        TraceError
            For another name, or where a token is needed and none is selected.
        """
        if panel not in tables.PANELS:
            raise TraceError(f"there is no table {panel!r}; expected one of {list(tables.PANELS)}.")
        if panel in ("row", "column", "heads") and self.token < 0:
            raise TraceError(f"table {panel!r} needs a token; set view.token, or click one.")
        with self._turn:
            return tables.PANELS[panel](self._selection())

    def weights(self, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray | None]:
        """Weights of some query tokens and those compared with them, [row, token] float32.

        The second is None while nothing is compared, and NaN where the other trace has other
        tokens.
        """
        return self._selection().weights(rows)

    def figure(self) -> Figure:
        """The map for print, zoomed, scaled and compared as on screen."""
        with self._turn:
            if self.running or not self.recorded.num_tokens:
                return unfilled_figure(self.recorded)
            return attention_figure(self._selection())

    # -- inside ---------------------------------------------------------------------------------

    @traitlets.validate("layer", "head", "other_layer", "other_head")
    def _valid_head(self, proposal: dict[str, Any]) -> int:
        limits.require_recorded(proposal["trait"].name, proposal["value"], self.recorded)
        return proposal["value"]

    @traitlets.validate("token")
    def _valid_token(self, proposal: dict[str, Any]) -> int:
        limits.require_token(proposal["value"], self.recorded)
        return proposal["value"]

    @traitlets.validate("sink")
    def _valid_sink(self, proposal: dict[str, Any]) -> int:
        limits.require_sink(proposal["value"], self.recorded)
        return proposal["value"]

    @traitlets.validate("pins")
    def _valid_pins(self, proposal: dict[str, Any]) -> list[int]:
        pins = list(dict.fromkeys(proposal["value"]))
        limits.require_pins(pins, self.recorded)
        return pins

    @traitlets.validate("zoom")
    def _valid_zoom(self, proposal: dict[str, Any]) -> list[int]:
        limits.require_zoom(proposal["value"], self.recorded)
        return proposal["value"]

    @traitlets.validate("compare")
    def _valid_compare(self, proposal: dict[str, Any]) -> str:
        if proposal["value"] == "trace" and self.other is None:
            raise TraceError(
                'there is no other trace to compare with; use AttentionView(trace, other=…), or compare="head".'
            )
        return proposal["value"]

    def _run(
        self, pangu: TracedModel, ids: list[int], max_new_tokens: int, sampling: Sampling | None
    ) -> None:
        """Generate, in a thread; what was recorded then replaces what came piece by piece."""
        trace = recording(
            pangu,
            ids,
            max_new_tokens,
            self.recorded.layers,
            sampling,
            self._stop,
            self.append,
            partial(setattr, self, "doing"),
        )
        with self._turn:
            self.recorded, self.trace = Recorded.of(trace), trace

    def _ended(self) -> None:
        with self._turn:
            self.send(self._everything(), [])

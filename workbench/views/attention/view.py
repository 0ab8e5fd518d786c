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

from workbench.arguments import require_loaded, whole_number
from workbench.errors import TraceError
from workbench.generation.turn import ask_turn
from workbench.traces.trace import Trace
from workbench.views.attention import tables
from workbench.views.attention.maps import (
    BLOCKS,
    EXACT,
    ROWS,
    WORK,
    Recorded,
    aggregated,
    block_size,
    log_totals,
    same_beginning,
    thumbnail_block,
    thumbnails,
    told_apart,
)
from workbench.views.figures import attention_figure
from workbench.views.shared.generating import GeneratingView
from workbench.views.shared.news import layers_told
from workbench.views.shared.scripts import script
from workbench.views.shared.threads import end_earlier_run
from workbench.views.shared.widget import Answer
from workbench.wording import titled

if TYPE_CHECKING:
    from workbench.generation.sampling import Sampling
    from workbench.generation.steps import Step
    from workbench.pangu import Pangu

PAGE_BYTES = 8_000_000  # of heads that a static page takes along


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
        self.recorded = trace if live else _recorded(trace)
        self.trace = None if live else trace
        self.other = None if other is None else _recorded(other)
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
        pangu: Pangu,
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
        config = pangu.config
        layers = _wanted("layer", attention, range(config.num_hidden_layers))
        if not layers:
            raise TraceError('no layers to show; expected attention="all" or some numbers.')
        ids = pangu.encode(prompt, thinking)
        end_earlier_run()
        ask_turn(pangu)
        empty = Recorded(pangu.name, layers, config.num_attention_heads, config.num_key_value_heads)
        view = cls(empty, **settings)
        view._begin(partial(view._run, pangu, ids, max_new_tokens, layers, sampling))
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
            start, layer, head = self.recorded.num_tokens, self.layer, self.head
            self.recorded.append(pieces, arrays, span)
            query, key = self.recorded.head(layer, head, start)
            content = {
                "kind": "more",
                "pieces": list(pieces),
                "span": span,
                "turns": self.recorded.turns,
                "layer": layer,
                "head": head,
                "start": start,
                "half": query.dtype == key.dtype == np.float16,
            }
            self.send(content, [*_packed(query, key[start:]), log_totals(query, key).tobytes()])

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
            return self._head(question)
        if kind == "thumbnails":
            return self._thumbnails(question)
        self._settled(question)
        return None

    def _on_message(self, *message: Any) -> None:
        with self._turn:
            super()._on_message(*message)

    def _everything(self) -> dict[str, Any]:
        recorded = self.recorded
        return {
            "kind": "attention",
            "model": self.names[0],
            "other": self.names[1],
            "shared": self.shared or 0,
            "pieces": recorded.pieces,
            "spans": recorded.spans,
            "turns": recorded.turns,
            "layers": recorded.layers,
            "heads": recorded.heads,
            "key_heads": recorded.key_heads,
            "error": self._error,
        }

    def _head(self, question: dict[str, Any]) -> Answer:
        layer, head, sink = int(question["layer"]), int(question["head"]), self.sink
        recorded = self.other if question["trace"] else self.recorded
        assert recorded is not None  # the page knows whether there is another
        query, key = recorded.head(layer, head)
        if recorded is self.other:
            query, key = query[: self.shared], key[: self.shared]
        tokens = len(query)
        content = {**question, "tokens": tokens, "half": query.dtype == key.dtype == np.float16}
        if tokens <= EXACT:
            return content, [*_packed(query, key), log_totals(query, key).tobytes()]
        size = block_size(tokens, BLOCKS)
        strongest, mean, log_total = aggregated(query, key, size, sink)
        cells = np.tri(len(mean), dtype=bool)
        maps = [strongest] if size == 1 else [strongest, mean]
        return {**content, "size": size, "sink": sink}, [
            *_packed(query, key),
            log_total.tobytes(),
            *(values[cells].astype(np.float16).tobytes() for values in maps),
        ]

    def _thumbnails(self, question: dict[str, Any]) -> Answer:
        layer, head, sink = (int(question[name]) for name in ("layer", "head", "sink"))
        recorded, other = self.recorded, self.other if question["difference"] else None
        tokens = recorded.num_tokens if other is None else self.shared
        size, every = thumbnail_block(tokens)
        heads = range(head, min(head + self._heads_of_a_message, recorded.heads))
        maps = thumbnails(recorded, layer, heads, question["blocks"], sink, other, tokens)
        content = {**question, "heads": len(heads), "tokens": tokens, "size": size, "every": every}
        return content, [maps.tobytes()]

    @property
    def _heads_of_a_message(self) -> int:
        tokens = self.recorded.num_tokens
        return max(1, int(WORK / max(1, min(tokens, ROWS) * tokens)))

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
        recorded = self.recorded
        if layers is None and heads is None:
            return self.questions(), {}
        layers = _wanted("layer", "all" if layers is None else layers, recorded.layers)
        heads = _wanted("head", "all" if heads is None else heads, range(recorded.heads))
        held, opening = [(layer, head) for layer in layers for head in heads], {}
        if held and (self.layer, self.head) not in held:
            near = min(held, key=lambda place: (place[0] != self.layer, place[1] != self.head))
            opening = dict(zip(("layer", "head"), near, strict=True))
        subtracted = (self.other_layer, self.other_head)
        if self.compare == "head" and subtracted not in held:
            held.append(subtracted)
        return self._questions(held), opening

    def questions(self) -> Sequence[dict[str, Any]]:
        """All that the page could ask; the selected head first, as far as PAGE_BYTES goes."""
        recorded = self.recorded
        if not recorded.num_tokens:
            return self._questions([])
        held = [(layer, head) for layer in recorded.layers for head in range(recorded.heads)]
        near = {(self.layer, self.head): 0}
        if self.compare == "head":
            near[self.other_layer, self.other_head] = 1
        held.sort(key=lambda place: (near.get(place, 2), place[0] != self.layer, place))
        query, key = recorded.head(self.layer, self.head)
        size = query.nbytes + key.nbytes + 4 * recorded.num_tokens
        if recorded.num_tokens > EXACT:
            size += min(recorded.num_tokens, BLOCKS) ** 2 * (
                1 if recorded.num_tokens <= BLOCKS else 2
            )
        most = PAGE_BYTES // (size * (1 if self.other is None else 2))
        return self._questions(held[: max(len(near), most)])

    def _questions(self, held: list[tuple[int, int]]) -> list[dict[str, Any]]:
        recorded = self.recorded
        sides = [0] if self.other is None else [0, 1]
        questions: list[dict[str, Any]] = [{"kind": "want"}]
        for layer, head in held:
            for side in sides:
                place = {"trace": side, "layer": layer, "head": head}
                questions.append({"kind": "head", **place})
        if recorded.num_tokens:
            for layer in recorded.layers:
                for head in range(0, recorded.heads, self._heads_of_a_message):
                    place = {"layer": layer, "head": head, "blocks": self.blocks}
                    place |= {"sink": self.sink, "difference": self.compare == "trace"}
                    questions.append({"kind": "thumbnails", **place})
        return questions

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
            return tables.PANELS[panel](self)

    def weights(self, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray | None]:
        """Weights of some query tokens and those compared with them, [row, token] float32.

        The second is None while nothing is compared, and NaN where the other trace has other
        tokens.
        """
        rows = np.asarray(rows, dtype=int)
        weights = self.recorded.rows(self.layer, self.head, rows)
        if self.compare == "none":
            return weights, None
        if self.compare == "head":
            return weights, self.recorded.rows(self.other_layer, self.other_head, rows)
        subtracted = np.full_like(weights, np.nan)
        known = rows < self.shared
        part = self.other.rows(self.layer, self.head, rows[known])[:, : self.shared]
        subtracted[np.ix_(known, range(self.shared))] = part
        subtracted[known, self.shared :] = 0
        return weights, subtracted

    def figure(self) -> Figure:
        """The map for print, zoomed, scaled and compared as on screen."""
        with self._turn:
            return attention_figure(self)

    # -- inside ---------------------------------------------------------------------------------

    @traitlets.validate("layer", "head", "other_layer", "other_head")
    def _valid_head(self, proposal: dict[str, Any]) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        allowed = self.recorded.layers if "layer" in name else list(range(self.recorded.heads))
        if value not in allowed:
            raise TraceError(f"{name} {value} is not recorded; expected one of {allowed}.")
        return value

    @traitlets.validate("token", "sink")
    def _valid_token(self, proposal: dict[str, Any]) -> int:
        name, value, tokens = proposal["trait"].name, proposal["value"], self.recorded.num_tokens
        if name == "token" and value != -1:
            self._require_text(name)
        low, high = (-1, tokens - 1) if name == "token" else (0, max(1, tokens - 1))
        if value < low or (value > high and tokens):
            allowed = f"{low} to {high}" if tokens else f"{low} or more"
            raise TraceError(f"{name} {value} is out of range; expected {allowed}.")
        return value

    @traitlets.validate("pins")
    def _valid_pins(self, proposal: dict[str, Any]) -> list[int]:
        pins = list(dict.fromkeys(proposal["value"]))
        if pins:
            self._require_text("pins")
        for pin in pins:
            if not 0 <= pin < self.recorded.num_tokens:
                raise TraceError(
                    f"pin {pin} is out of range; expected 0 to {self.recorded.num_tokens - 1}."
                )
        return pins

    @traitlets.validate("zoom")
    def _valid_zoom(self, proposal: dict[str, Any]) -> list[int]:
        zoom, tokens = proposal["value"], self.recorded.num_tokens
        if zoom:
            self._require_text("zoom")
        if zoom and not (
            len(zoom) == 4 and 0 <= zoom[0] < zoom[1] <= tokens and 0 <= zoom[2] < zoom[3] <= tokens
        ):
            raise TraceError(
                f"zoom is {zoom}; expected [] or [first row, end row, first column, end column] "
                f"within 0 to {tokens}."
            )
        return zoom

    def _require_text(self, name: str) -> None:
        if not self.recorded.num_tokens:
            raise TraceError(f"there is no text yet; set {name} once its first tokens are there.")

    @traitlets.validate("compare")
    def _valid_compare(self, proposal: dict[str, Any]) -> str:
        if proposal["value"] == "trace" and self.other is None:
            raise TraceError(
                'there is no other trace to compare with; use AttentionView(trace, other=…), or compare="head".'
            )
        return proposal["value"]

    def _run(
        self,
        pangu: Pangu,
        ids: list[int],
        max_new_tokens: int,
        layers: list[int],
        sampling: Sampling | None,
    ) -> None:
        waiting = [("prompt", pangu.tokenizer.pieces(ids))]

        def on_step(step: Step, arrays: dict[str, np.ndarray]) -> None:
            span, pieces = waiting.pop()  # a token's queries come with the step after it
            self.append(pieces, arrays, span)
            waiting.append((step.span, [step.piece]))

        with layers_told(pangu, partial(setattr, self, "doing")):
            trace = pangu.trace(
                ids, max_new_tokens, layers, sampling=sampling, stop=self._stop, on_step=on_step
            )
        with self._turn:
            self.recorded, self.trace = Recorded.of(trace), trace

    def _ended(self) -> None:
        with self._turn:
            self.send(self._everything(), [])


def _recorded(trace: Trace) -> Recorded:
    if not isinstance(trace, Trace):
        raise TraceError(
            f"expected a Trace, for example pangu.trace(…); came {type(trace).__name__}."
        )
    if not trace.attention_layers:
        raise TraceError(
            f"the trace of {trace.model_name} was recorded with attention=None; trace again with "
            'attention="all".'
        )
    return Recorded.of(trace)


def _packed(query: np.ndarray, key: np.ndarray) -> list[bytes]:
    """In half precision where both were recorded so, else in float32."""
    kind = np.float16 if query.dtype == key.dtype == np.float16 else np.float32
    return [np.ascontiguousarray(array, dtype=kind).tobytes() for array in (query, key)]


def _wanted(what: str, chosen: str | Iterable[int], allowed: Iterable[int]) -> list[int]:
    allowed = list(allowed)
    if isinstance(chosen, str) and chosen == "all":
        return allowed
    if isinstance(chosen, str) or not isinstance(chosen, Iterable):
        raise TraceError(f'{what}s are {chosen!r}; expected "all" or a list of numbers.')
    numbers = [whole_number(f"a {what}", number, TraceError, "a whole number") for number in chosen]
    if outside := [number for number in numbers if number not in allowed]:
        raise TraceError(f"{what} {outside[0]} is not recorded; expected some of {allowed}.")
    return sorted(set(numbers))

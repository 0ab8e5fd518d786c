"""Which experts every token used: linked panels of one trace, of several, or of one that grows."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import traitlets
from matplotlib.figure import Figure

from workbench.arguments import require_loaded
from workbench.errors import TraceError
from workbench.generation.sampling import Sampling
from workbench.generation.steps import Step
from workbench.generation.turn import ask_turn
from workbench.traces.trace import Trace
from workbench.tracing.engine import TracedEngine
from workbench.views.routing import messages, tables
from workbench.views.routing.figures import routing_figure
from workbench.views.routing.numbers import Document, Routing, matcher
from workbench.views.routing.selection import Selection
from workbench.views.shared.generating import GeneratingView
from workbench.views.shared.news import layers_told
from workbench.views.shared.scripts import script
from workbench.views.shared.threads import end_earlier_run
from workbench.views.shared.widget import Answer
from workbench.wording import titled

PAUSE = 0.05  # seconds between two messages of a live view: no more than the eye can follow


class RoutingView(GeneratingView):
    """Tokens, map, load, one token's router and one expert's tokens, linked.

    Hovering shows, a click keeps. What is kept and what is filtered are traits, so that the next
    cell can read and set them. The page gets the choices at once; probabilities and weights are
    sent when they are looked at.

    Parameters
    ----------
    traces
        One trace, a list of traces, or a dict {label: trace} of Pangu Pro MoE models of one shape.
        A trace that holds only `selected_experts` shows choices and loads.
    labels
        For a list: the domain of each; domains may repeat.

    Attributes
    ----------
    document, token, layer, expert : int
        What is selected; `token` counts within its document (trace), token and expert are -1 if
        nothing is selected.
    group : int
        The group whose winner colours the tokens.
    colour : "group", "margin", "entropy" or "surprisal"
        What the colours of the tokens tell, in `layer`.
    domain, span, phase, search : str
        Filters of tokens: a label; "prompt", "thinking" or "answer"; "prefill" or "decode"; a text
        that tokens say, or a regular expression between slashes. "all" and "" keep every token.
        Names of special tokens and bytes are searched only if "[unused" stands in the search, or
        "<" before a letter, a digit, "/" or "|": "[unused9]", "<0x".
    compare : "others" or "uniform"
        Chance: the tokens that the filters leave out (uniform routing where they leave out none),
        or uniform routing.
    running : bool
        Whether a generation is filling the view.
    doing : str
        The layer that a model on disk has run last, while it generates; else "".
    trace : Trace or None
        The first trace; of a live view, the recorded one once it has ended.

    Raises
    ------
    TraceError
        For a dense model, traces of different shapes, or labels that do not fit.
    """

    _esm = script("routing")
    document = traitlets.Int(0).tag(sync=True)
    token = traitlets.Int(-1).tag(sync=True)
    layer = traitlets.Int(0).tag(sync=True)
    expert = traitlets.Int(-1).tag(sync=True)
    group = traitlets.Int(0).tag(sync=True)
    colour = traitlets.Enum(["group", "margin", "entropy", "surprisal"], "group").tag(sync=True)
    domain = traitlets.Unicode("all").tag(sync=True)
    span = traitlets.Enum(["all", "prompt", "thinking", "answer"], "all").tag(sync=True)
    phase = traitlets.Enum(["all", "prefill", "decode"], "all").tag(sync=True)
    search = traitlets.Unicode("").tag(sync=True)
    compare = traitlets.Enum(["others", "uniform"], "others").tag(sync=True)
    running = traitlets.Bool(False).tag(sync=True)
    doing = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self,
        traces: Trace | Sequence[Trace] | Mapping[str, Trace],
        labels: Sequence[str] | None = None,
        **settings: Any,
    ) -> None:
        self.trace, self.routing = _join(traces, labels)
        self._turn = threading.RLock()  # a text that grows is not read half grown
        super().__init__(**settings)
        self.observe(self._clear_token, "document")

    @classmethod
    def live(
        cls,
        pangu: TracedEngine,
        prompt: Any,
        max_new_tokens: int = 128,
        sampling: Sampling | None = None,
        thinking: str = "slow",
        **settings: Any,
    ) -> RoutingView:
        """A view that fills while the model generates, in a thread.

        `stop()`, `close()`, an interrupt of the kernel and the end of the last page that shows it
        end the generation, and so does a new run of the notebook cell that began it; what came by
        then stays.

        When it has ended, `view.trace` is the recorded trace (without attention).

        Raises
        ------
        TraceError
            For something else than a loaded model, or a dense one.
        TokenizerError
            For a prompt of no known kind, or an unknown `thinking`.
        GenerationError
            While another thread generates with the model.
        """
        require_loaded(pangu)
        config = pangu.config
        if not getattr(config, "num_groups", 0):
            raise TraceError(f"{pangu.name} is a dense model without experts; nothing is routed.")
        ids = pangu.encode(prompt, thinking)
        end_earlier_run()
        ask_turn(pangu)
        shape = (config.num_hidden_layers, config.num_experts_per_tok, config.num_experts, config.num_groups)  # fmt: skip
        view = cls(_Empty(pangu.name, shape), **settings)
        view._begin(partial(view._run, pangu, ids, max_new_tokens, sampling))
        return view

    def append(
        self,
        pieces: Sequence[str],
        arrays: Mapping[str, np.ndarray],
        span: str = "answer",
        surprisal_bits: Sequence[float] | None = None,
    ) -> None:
        """Add tokens to the last document, and to the page.

        Parameters
        ----------
        pieces
            One per new token.
        arrays
            selected_experts [moe_layer, new token, slot], and router_logits [moe_layer, new token,
            expert] and routing_weights [moe_layer, new token, slot] where they are known.
        span
            "prompt", "thinking" or "answer".
        surprisal_bits
            [new token]; unknown by default.
        """
        routing, document, new = self.routing, self.routing.documents[-1], len(pieces)
        expected = (routing.layers, new, routing.slots)
        if np.shape(arrays["selected_experts"]) != expected:
            raise TraceError(
                f"selected_experts is {list(np.shape(arrays['selected_experts']))}; expected "
                f"[moe_layer, new token, slot] = {list(expected)}."
            )
        with self._turn:
            start, first = len(document.pieces), routing.num_tokens
            known = np.full(start, np.nan) if document.surprisal_bits is None else document.surprisal_bits  # fmt: skip
            bits = np.full(new, np.nan) if surprisal_bits is None else np.asarray(surprisal_bits)
            document.surprisal_bits = np.concatenate([known, bits])
            if document.spans and document.spans[-1]["kind"] == span:
                document.spans[-1]["end"] = start + new
            else:
                document.spans.append({"kind": span, "start": start, "end": start + new})
            if span == "prompt":
                document.prompt_length = start + new
            routing.append(pieces, arrays)
            chosen = np.asarray(arrays["selected_experts"]).swapaxes(0, 1)
            content = {
                "kind": "more",
                "start": first,
                "pieces": list(pieces),
                "span": span,
                "missing": routing.missing(),
            }
            self.send(
                content, [messages.packed(routing, chosen), bits.astype(np.float32).tobytes()]
            )

    def wait(self, timeout: float | None = None) -> Trace | None:
        """Wait for the generation that is running and return its trace; an interrupt stops it."""
        super().wait(timeout)
        return self.trace

    # -- what the page asks ---------------------------------------------------------------------

    def answer(self, question: dict[str, Any]) -> Answer | None:
        """Choices of everything; weights, entropies and margins of a layer; a block's probabilities."""
        with self._turn:
            return self._answer(question)

    def _answer(self, question: dict[str, Any]) -> Answer | None:
        routing, kind = self.routing, question.get("kind")
        if kind == "want":
            return messages.everything(routing, self._error)
        if kind == "layer":
            return messages.layer(routing, int(question["layer"]))
        if kind == "block":
            return messages.block(routing, int(question["layer"]), int(question["block"]))
        self._settled(question)
        return None

    def questions(self) -> Sequence[dict[str, Any]]:
        """All that the page could ask; the selected layer first, as far as PAGE_BYTES goes."""
        return messages.questions(self.routing, self.layer)

    # -- the numbers on screen ------------------------------------------------------------------

    def table(self, panel: str = "token") -> pd.DataFrame:
        """The numbers of one panel as they are filtered and selected now.

        Parameters
        ----------
        panel
            "token": the winners of `token` in `layer` (of all tokens if none is selected);
            "router": every expert before that token;
            "tokens": one row per token; "map": every choice; "load": uses of every expert beside
            chance; of `expert` in `layer`: "expert" (its tokens, most weighted first), "words"
            (its pieces), "partners" (experts chosen together with it) and "domains".

        Raises
        ------
        TraceError
            For another name, an expert's table while `expert` is -1, or "router" while `token` is.
        """
        if panel not in tables.PANELS:
            raise TraceError(f"there is no table {panel!r}; expected one of {list(tables.PANELS)}.")
        if panel in ("expert", "words", "partners", "domains") and self.expert < 0:
            raise TraceError(f"table {panel!r} needs an expert; set view.expert, or click one.")
        if panel == "router" and self.token < 0:
            raise TraceError("table 'router' needs a token; set view.token, or click one.")
        with self._turn:
            return tables.PANELS[panel](self._selection())

    @property
    def kept(self) -> np.ndarray:
        """Which tokens pass the filters, [token] bool over all documents."""
        with self._turn:
            return self.routing.mask(self.domain, self.span, self.phase, self.search)

    def _selection(self) -> Selection:
        names = [field.name for field in fields(Selection)]
        return Selection(**{name: getattr(self, name) for name in names})

    def figure(self) -> Figure:
        """The map and the loads for print, filtered as on screen."""
        with self._turn:
            return routing_figure(self.routing, self.kept)

    # -- inside ---------------------------------------------------------------------------------

    @traitlets.validate("document", "token", "layer", "expert", "group")
    def _valid(self, proposal: dict[str, Any]) -> int:
        name, value, routing = proposal["trait"].name, proposal["value"], self.routing
        size = {
            "document": len(routing.documents),
            "token": len(routing.documents[self.document].pieces),
            "layer": routing.layers,
            "expert": routing.experts,
            "group": routing.slots,
        }[name]
        if not (-1 if name in ("token", "expert") else 0) <= value < size:
            raise TraceError(f"{name} {value} is out of range; expected 0 to {size - 1}.")
        return value

    @traitlets.validate("domain", "search")
    def _valid_filter(self, proposal: dict[str, Any]) -> str:
        name, value = proposal["trait"].name, proposal["value"]
        if name == "search":
            matcher(value)
        elif value not in ["all", *self.routing.labels]:
            raise TraceError(f"there is no domain {value!r}; expected all or one of {self.routing.labels}.")  # fmt: skip
        return value

    def _clear_token(self, _change: Any) -> None:
        if self.token >= len(self.routing.documents[self.document].pieces):
            self.token = -1

    def _run(
        self, pangu: TracedEngine, ids: list[int], max_new_tokens: int, sampling: Sampling | None
    ) -> None:
        waiting = [("prompt", pangu.tokenizer.pieces(ids), None)]
        held: list[tuple[str, list[str], list[float] | None, dict[str, np.ndarray]]] = []
        sent = -np.inf

        def on_step(step: Step, arrays: dict[str, np.ndarray]) -> None:
            nonlocal sent
            held.append((*waiting.pop(), arrays))  # a token's routing comes with the step after it
            waiting.append((step.span, [step.piece], [-step.logprob / np.log(2)]))
            if time.monotonic() - sent >= PAUSE:
                send()
                sent = time.monotonic()

        def send() -> None:
            for span, group in itertools.groupby(held, key=lambda token: token[0]):
                _, pieces, bits, arrays = zip(*group, strict=True)
                self.append(
                    list(itertools.chain(*pieces)),
                    {
                        name: np.concatenate([part[name] for part in arrays], 1)
                        for name in arrays[0]
                    },
                    span,
                    None if bits[0] is None else list(itertools.chain(*bits)),
                )
            held.clear()

        try:
            with layers_told(pangu, partial(setattr, self, "doing")):
                trace = pangu.trace(ids, max_new_tokens, None, sampling=sampling, stop=self._stop, on_step=on_step)  # fmt: skip
            with self._turn:
                self.routing, self.trace = Routing.of([trace], [titled(pangu.name)]), trace
        finally:
            if self.trace is None:
                send()  # what an error left

    def _ended(self) -> None:
        self.send(*messages.everything(self.routing, self._error))


class _Empty:
    """Stands for a trace that is still to come."""

    def __init__(self, name: str, shape: tuple[int, int, int, int]) -> None:
        self.name, self.shape = name, shape


def _join(traces: Any, labels: Sequence[str] | None) -> tuple[Trace | None, Routing]:
    if isinstance(traces, _Empty):
        return None, Routing([Document(titled(traces.name), traces.name)], *traces.shape)
    if isinstance(traces, Mapping):
        labels, traces = list(traces), list(traces.values())
    elif isinstance(traces, Trace):
        traces, labels = [traces], labels or [titled(traces.model_name)]
    traces = list(traces)
    if labels is None:
        labels = [f"trace {number}" for number in range(len(traces))]
    if not traces or len(traces) != len(labels):
        raise TraceError(
            f"{len(traces)} traces and {len(labels)} labels; expected one label per trace and at "
            "least one trace."
        )
    return traces[0], Routing.of(traces, labels)

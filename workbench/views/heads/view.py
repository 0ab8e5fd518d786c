"""What kind of head each head is: a map of all heads by a score, and the scores of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import traitlets
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from workbench.analysis import head_scores
from workbench.analysis.attention_sums import IDENTITY
from workbench.analysis.heads import MEASURES, MINIMUM_QUERIES, PATTERNS, texts_of
from workbench.errors import TraceError
from workbench.traces.trace import Trace
from workbench.views.shared.printing import PrintFigure
from workbench.views.shared.scripts import script
from workbench.views.shared.widget import Answer, View
from workbench.wording import titled

CHANCE = {
    "same_token": "the same attention on shuffled text",
    "induction": "the same attention on shuffled text",
    "uniform": "attention to one token alone",
}
MEASURED = {
    "entropy_bits": "Entropy of the attention, in bits",
    "entropy_normalised": "Entropy of the attention as a share of even attention's",
    "mean_distance": "Mean distance to the tokens attended to",
}


class HeadScoresView(View):
    """Layers × heads by a score of `head_scores`, a ranking, and every score of one head.

    A click selects a head; `wb.link(view, attention_view)` shows its attention beside.

    Parameters
    ----------
    traces
        A trace or several of one model, recorded with attention.
    scores
        What `head_scores` returned for them; worked out with its defaults if not given.

    Attributes
    ----------
    layer, head : int
        The selected head.
    score : str
        What the colours tell: a score, entropy_bits, entropy_normalised or mean_distance.
    relative : bool
        Colours and ranking by how far a score is on the way from chance to 1.
    layer_order, head_order : "model" or "score"
        Rows by number, or by the layer's highest score first; columns by number, or in each layer
        the highest score first.
    tagged_only : bool
        Leave heads out that are not tagged with `score`; for the rule see `head_scores`. With fewer
        than 10 query tokens none is.
    trace : Trace
        The first trace.
    scores : pandas.DataFrame

    Raises
    ------
    TraceError
        As `head_scores`; for a frame of other heads than the traces have, or of other texts, as far
        as its `attrs` tell.
    """

    _esm = script("heads")
    layer = traitlets.Int(0).tag(sync=True)
    head = traitlets.Int(0).tag(sync=True)
    score = traitlets.Unicode("previous_token").tag(sync=True)
    relative = traitlets.Bool(False).tag(sync=True)
    layer_order = traitlets.Enum(["model", "score"], "model").tag(sync=True)
    head_order = traitlets.Enum(["model", "score"], "model").tag(sync=True)
    tagged_only = traitlets.Bool(False).tag(sync=True)

    def __init__(
        self, traces: Trace | Sequence[Trace], scores: pd.DataFrame | None = None, **settings: Any
    ) -> None:
        self.scores = head_scores(traces) if scores is None else scores
        self.traces = [traces] if isinstance(traces, Trace) else list(traces)
        self.trace = self.traces[0]
        _require_heads(self.scores, self.trace)
        if self.scores.attrs.get("texts", texts_of(self.traces)) != texts_of(self.traces):
            raise TraceError(
                "these scores are of another text or another model; expected what "
                "wb.head_scores(traces) returned for the traces of this view."
            )
        super().__init__(**{"layer": self.trace.attention_layers[0], **settings})

    @property
    def patterns(self) -> list[str]:
        """The scores that have a chance level, in the order of the frame."""
        return [name for name in self.scores if f"{name}_chance" in self.scores]

    @property
    def measures(self) -> list[str]:
        """All that can be mapped."""
        return [*self.patterns, *(name for name in MEASURES if name in self.scores)]

    @traitlets.validate("layer", "head", "score")
    def _valid(self, proposal: dict[str, Any]) -> int | str:
        name, value = proposal["trait"].name, proposal["value"]
        allowed = {
            "layer": self.trace.attention_layers,
            "head": range(self.trace.num_heads),
            "score": self.measures,
        }[name]
        if value not in allowed:
            raise TraceError(f"there is no {name} {value!r}; expected one of {list(allowed)}.")
        return value

    def answer(self, question: dict[str, Any]) -> Answer | None:
        """Every score of every head, [measure, layer, head] float32, chances and tags likewise."""
        if question.get("kind") != "want":
            return None
        frame, attrs = self.scores, self.scores.attrs
        shape = (-1, len(self.trace.attention_layers), self.trace.num_heads)
        window = attrs.get("window")
        words = {
            **PATTERNS,
            **MEASURED,
            **({"local": f"the last {window} tokens, including itself"} if window else {}),
        }
        content = {
            "kind": "heads",
            "model": titled(self.trace.model_name),
            "tokens": sum(trace.num_tokens for trace in self.traces),
            "texts": len(self.traces),
            "layers": self.trace.attention_layers,
            "heads": self.trace.num_heads,
            "kv_heads": self.trace.num_key_value_heads,
            "measures": [
                {
                    "name": name,
                    "words": words.get(name, "your own pattern"),
                    "pattern": name in self.patterns,
                    "chance": CHANCE.get(name, "even attention"),
                    "threshold": attrs.get("threshold", {}).get(name),
                    "shuffled": name in IDENTITY,
                    "queries": attrs.get("query_tokens", {}).get(name),
                    "needed": MINIMUM_QUERIES,
                }
                for name in self.measures
            ],
        }
        tags = frame["tags"].str.split(", ")
        arrays = [
            np.stack([frame[name] for name in self.measures]).astype(np.float32),
            np.stack([frame[f"{name}_chance"] for name in self.patterns]).astype(np.float32),
            np.array([[name in there for there in tags] for name in self.patterns], dtype=np.uint8),
        ]
        return content, [array.reshape(shape).tobytes() for array in arrays]

    def table(self) -> pd.DataFrame:
        """The ranking on screen: every head, the highest score first.

        If `relative` is set, column above_chance, (score - chance) / (1 - chance), decides.
        """
        frame, name = self.scores, self.score
        columns = ["layer", "head", "kv_head", name, f"{name}_chance", "above_chance", "tags"]
        if self._relative:
            frame = frame.assign(above_chance=self._shown())
        if self.tagged_only and name in self.patterns:
            frame = frame[self._tagged(name)]
        frame = frame[[column for column in columns if column in frame]]
        by = "above_chance" if self._relative else name
        return frame.sort_values(by, ascending=False, kind="stable", ignore_index=True)

    def figure(self) -> Figure:
        """The map for print; a dot marks a tag, the frame the selected head."""
        layers, heads = self.trace.attention_layers, self.trace.num_heads
        values = self._shown().to_numpy().reshape(len(layers), heads)
        figure = PrintFigure(
            figsize=(min(11, 2.6 + 0.24 * heads), 1.5 + 0.24 * len(layers)), layout="constrained"
        )
        axes = figure.subplots()
        image = axes.pcolormesh(values, cmap="Blues", vmin=0)
        for border in range(0, heads, heads // self.trace.num_key_value_heads):
            axes.axvline(border, color="black", linewidth=0.6)
        name = self.score.replace("_", " ")
        title = f"{name} of {titled(self.trace.model_name)}\nframe: layer {self.layer}, head {self.head}"
        if self.score in self.patterns:
            title += "; dot: tagged"
            row, column = np.nonzero(self._tagged(self.score).to_numpy().reshape(values.shape))
            axes.scatter(column + 0.5, row + 0.5, s=12, color="#d95f02", edgecolor="white", linewidth=0.5)  # fmt: skip
        place = (self.head, layers.index(self.layer))
        axes.add_patch(Rectangle(place, 1, 1, fill=False, edgecolor="#d00000", linewidth=2, clip_on=False))  # fmt: skip
        axes.invert_yaxis()
        axes.set_yticks(np.arange(len(layers)) + 0.5, [str(layer) for layer in layers], fontsize=7)
        step = 1 if heads <= 16 else 4
        axes.set_xticks(np.arange(0, heads, step) + 0.5, [str(h) for h in range(0, heads, step)], fontsize=7)  # fmt: skip
        axes.set(xlabel="head; lines separate key-value heads", ylabel="layer")
        axes.set_title(title, fontsize=9)
        figure.colorbar(
            image, ax=axes, label=name + (", from chance to 1" if self._relative else "")
        )
        return figure

    @property
    def _relative(self) -> bool:
        return self.relative and self.score in self.patterns

    def _shown(self) -> pd.Series:
        """What the colours tell, one value per head."""
        score = self.scores[self.score]
        if not self._relative:
            return score
        chance = self.scores[f"{self.score}_chance"]
        return (score - chance) / (1 - chance)

    def _tagged(self, name: str) -> pd.Series:
        return self.scores["tags"].str.split(", ").map(lambda tags: name in tags)


def _require_heads(scores: pd.DataFrame, trace: Trace) -> None:
    expected = [(layer, head) for layer in trace.attention_layers for head in range(trace.num_heads)]  # fmt: skip
    known = isinstance(scores, pd.DataFrame) and {"layer", "head", "tags"} <= set(scores.columns)
    if not known or list(zip(scores["layer"], scores["head"], strict=True)) != expected:
        raise TraceError(
            "these scores are not of this trace's heads in their order; expected what "
            "wb.head_scores(traces) returned, one row per head, neither cut nor sorted."
        )

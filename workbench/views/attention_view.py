"""What one head attends to: a map of all tokens, and the text shaded for one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import traitlets
from matplotlib.figure import Figure

from workbench.analysis import attention_to
from workbench.errors import TraceError
from workbench.trace import Trace
from workbench.views._widget import SCRIPTS, Answer, View
from workbench.views.figures import attention_heatmap


class AttentionView(View):
    """Attention of any recorded layer and head, worked out when it is looked at.

    Parameters
    ----------
    trace
        Recorded with attention.

    Attributes
    ----------
    layer, head, token : int
        What is selected, readable from the next cell.
    hide_first : bool
        Leave the first token, to which many heads attend by default, out of the colours.

    Raises
    ------
    TraceError
        If the trace has no attention.
    """

    _script = SCRIPTS / "attention_view.js"
    _esm = _script
    layer = traitlets.Int(0).tag(sync=True)
    head = traitlets.Int(0).tag(sync=True)
    token = traitlets.Int(0).tag(sync=True)
    hide_first = traitlets.Bool(True).tag(sync=True)

    def __init__(self, trace: Trace, **settings: Any) -> None:
        if not trace.attention_layers:
            raise TraceError(
                'this trace was recorded with attention=None; trace again with attention="all".'
            )
        self.trace = trace
        defaults = {"layer": trace.attention_layers[0], "token": trace.num_tokens - 1}
        super().__init__(**{**defaults, **settings})

    @traitlets.validate("layer", "head", "token")
    def _valid(self, proposal: dict[str, Any]) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        allowed = {
            "layer": self.trace.attention_layers,
            "head": range(self.trace.num_heads),
            "token": range(self.trace.num_tokens),
        }[name]
        if value not in allowed:
            raise TraceError(f"{name} {value} is not recorded; expected one of {list(allowed)}.")
        return value

    def questions(self) -> Sequence[dict[str, Any]]:
        return [{"kind": "want", "layer": self.layer, "head": self.head}]

    def answer(self, question: dict[str, Any]) -> Answer | None:
        """One head as 16-bit fixed point, [token, token]; 65535 is 1."""
        if question.get("kind") != "want":
            return None
        trace, layer, head = self.trace, int(question["layer"]), int(question["head"])
        weights = np.round(trace.attention(layer, head) * 65535).astype(np.uint16)
        content = {
            "kind": "attention",
            "layer": layer,
            "head": head,
            "pieces": trace.pieces,
            "spans": trace.spans,
            "layers": trace.attention_layers,
            "heads": trace.num_heads,
            "model": trace.model_name,
        }
        return content, [weights.tobytes()]

    def table(self) -> pd.DataFrame:
        """What the selected token attends to, most attended first."""
        return attention_to(self.trace, self.layer, self.head, self.token)

    def figure(self) -> Figure:
        """The map for print."""
        return attention_heatmap(self.trace, self.layer, self.head, hide_first=self.hide_first)

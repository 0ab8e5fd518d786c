"""Which experts each token used, as a strip of tokens over a map of layers and groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import traitlets
from matplotlib.figure import Figure

from workbench.errors import TraceError
from workbench.trace import Trace
from workbench.views._widget import SCRIPTS, Answer, View
from workbench.views.figures import routing_heatmap


class RoutingView(View):
    """Tokens x layers x groups of one trace; a click shows a token's winners with their weights.

    Parameters
    ----------
    trace
        Of a Pangu Pro MoE model.

    Attributes
    ----------
    token, layer, expert : int
        What is selected, readable from the next cell; token and expert are -1 if nothing is.

    Raises
    ------
    TraceError
        For the trace of a dense model.
    """

    _script = SCRIPTS / "routing_view.js"
    _esm = _script
    token = traitlets.Int(-1).tag(sync=True)
    layer = traitlets.Int(0).tag(sync=True)
    expert = traitlets.Int(-1).tag(sync=True)

    def __init__(self, trace: Trace, **settings: Any) -> None:
        if not trace.is_moe:
            raise TraceError(
                f"{trace.model_name} is a dense model without experts; RoutingView needs the trace "
                'of a Pangu Pro MoE model, for example wb.load("demo").trace("…").'
            )
        self.trace = trace
        super().__init__(**settings)

    @traitlets.validate("token", "expert", "layer")
    def _valid(self, proposal: dict[str, Any]) -> int:
        name = proposal["trait"].name
        size = {
            "token": self.trace.num_tokens,
            "layer": len(self.trace.router_logits),
            "expert": self.trace.num_experts,
        }[name]
        first = 0 if name == "layer" else -1
        if not first <= proposal["value"] < size:
            raise TraceError(
                f"{name} {proposal['value']} is out of range; expected 0 to {size - 1}."
            )
        return proposal["value"]

    def answer(self, question: dict[str, Any]) -> Answer | None:
        """Everything that is drawn: choices, weights and probabilities, [layer, token, slot]."""
        if question.get("kind") != "want":
            return None
        trace = self.trace
        chosen = np.asarray(trace.selected_experts).astype(np.uint16)
        probability = np.stack(
            [
                np.take_along_axis(trace.router_probabilities(layer), chosen[layer].astype(int), -1)
                for layer in range(len(chosen))
            ]
        ).astype(np.float32)
        content = {
            "kind": "routing",
            "shape": list(chosen.shape),
            "experts": trace.num_experts,
            "pieces": trace.pieces,
            "spans": trace.spans,
            "model": trace.model_name,
        }
        weights = np.ascontiguousarray(trace.routing_weights, dtype=np.float32)
        return content, [chosen.tobytes(), weights.tobytes(), probability.tobytes()]

    def table(self) -> pd.DataFrame:
        """The winners on screen: group, expert, probability, weight of `token` in `layer`.

        Without a selected token, of all tokens. The chance level of a probability is 1 / experts.
        """
        tokens = range(self.trace.num_tokens) if self.token < 0 else [self.token]
        probability = self.trace.router_probabilities(self.layer)
        rows = []
        for token in tokens:
            for slot, expert in enumerate(self.trace.selected_experts[self.layer, token]):
                rows.append(
                    {
                        "token": token,
                        "piece": self.trace.pieces[token],
                        "layer": self.layer,
                        "group": slot,
                        "expert": int(expert),
                        "probability": float(probability[token, expert]),
                        "weight": float(self.trace.routing_weights[self.layer, token, slot]),
                    }
                )
        return pd.DataFrame(rows)

    def figure(self) -> Figure:
        """The map for print."""
        return routing_heatmap(self.trace)

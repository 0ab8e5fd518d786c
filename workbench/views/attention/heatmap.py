"""Attention of one head as a figure, straight from a trace."""

from __future__ import annotations

from matplotlib.figure import Figure

from workbench.traces.trace import Trace
from workbench.views.attention.view import AttentionView


def attention_heatmap(
    trace: Trace, layer: int, head: int, sink: int = 1, scale: str = "linear"
) -> Figure:
    """Attention of one head; rows attend to columns, the first `sink` tokens apart."""
    return AttentionView(trace, layer=layer, head=head, sink=sink, scale=scale).figure()

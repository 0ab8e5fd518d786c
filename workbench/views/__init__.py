"""Widgets and figures: every picture is a function of a trace, the playground of a loaded model."""

from workbench.views.attention_view import AttentionView
from workbench.views.figures import attention_heatmap, expert_load_bars, routing_heatmap
from workbench.views.playground import Playground
from workbench.views.routing_view import RoutingView

__all__ = [
    "AttentionView",
    "Playground",
    "RoutingView",
    "attention_heatmap",
    "expert_load_bars",
    "routing_heatmap",
]

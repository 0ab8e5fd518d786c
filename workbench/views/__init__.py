"""Widgets and figures: every picture is a function of a trace, the playground of a loaded model."""

from workbench.views.attention.heatmap import attention_heatmap
from workbench.views.attention.view import AttentionView
from workbench.views.comparison.view import ComparisonView
from workbench.views.explorer import Explorer
from workbench.views.figures import expert_load_bars, routing_heatmap
from workbench.views.heads.view import HeadScoresView
from workbench.views.link import Link, link
from workbench.views.matrix.view import PromptMatrixView
from workbench.views.paper_figures import (
    coactivation_maps,
    first_layer_load,
    group_frequency,
    imbalance_histogram,
    specialisation_bars,
)
from workbench.views.playground.view import Playground
from workbench.views.routing.view import RoutingView

__all__ = [
    "AttentionView",
    "ComparisonView",
    "Explorer",
    "HeadScoresView",
    "Link",
    "Playground",
    "PromptMatrixView",
    "RoutingView",
    "attention_heatmap",
    "coactivation_maps",
    "expert_load_bars",
    "first_layer_load",
    "group_frequency",
    "imbalance_histogram",
    "link",
    "routing_heatmap",
    "specialisation_bars",
]

"""Widgets and figures: every picture is a function of a trace, the playground of a model.

A folder for each view, with `view.py` (the widget), `view.js` (its page, with more modules beside it)
and `view.css`: `routing/`, `attention/`, `heads/`, `playground/`, `comparison/`, `matrix/`. `explorer.py`
and `linking.py` let several views share what is selected. `figures.py` and `paper_figures.py` are
matplotlib alone. What all views share is in `shared/`. Start with `heads/view.py`, the smallest view.

May import `prompts`, `server`, `generation`, `tracing` (in functions), `analysis`, `traces`,
`checkpoints` and the leaves. A view imports another one only to open it. Names are imported when they
are first used; no torch.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "AttentionView": "attention.view",
    "ComparisonView": "comparison.view",
    "Explorer": "explorer",
    "HeadScoresView": "heads.view",
    "Link": "linking",
    "Playground": "playground.view",
    "PromptMatrixView": "matrix.view",
    "RoutingView": "routing.view",
    "attention_heatmap": "attention.heatmap",
    "coactivation_maps": "paper_figures",
    "expert_load_bars": "figures",
    "first_layer_load": "paper_figures",
    "group_frequency": "paper_figures",
    "imbalance_histogram": "paper_figures",
    "link": "linking",
    "routing_heatmap": "figures",
    "specialisation_bars": "paper_figures",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"workbench.views.{_HOMES[name]}"), name)
    raise AttributeError(f"workbench.views has no {name!r}; it has {', '.join(sorted(_HOMES))}")

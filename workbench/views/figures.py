"""The matplotlib twins of the widgets: traces in, figures out."""

from __future__ import annotations

import colorsys

import numpy as np
from matplotlib.figure import Figure

from workbench.analysis import expert_load
from workbench.trace import Trace

LABELLED_TOKENS = 60  # more pieces than this cannot be read along an axis


def expert_colours(num_experts: int, num_groups: int) -> np.ndarray:
    """[expert, 3]: hue tells the group, lightness the expert within it; the widgets use the same."""
    size = num_experts // num_groups
    return np.array(
        [
            colorsys.hls_to_rgb(
                (expert // size) / num_groups, 0.3 + 0.5 * (expert % size) / max(1, size - 1), 0.65
            )
            for expert in range(num_experts)
        ]
    )


def routing_heatmap(trace: Trace) -> Figure:
    """Every token's experts in every layer: one stripe per group, coloured by expert."""
    chosen = np.asarray(trace.selected_experts).astype(int)  # [layer, token, slot]
    layers, tokens, slots = chosen.shape
    figure = Figure(figsize=(min(14, 2 + 0.3 * tokens), 1.6 + 0.3 * layers), layout="constrained")
    axes = figure.subplots()
    colours = expert_colours(trace.num_experts, trace.num_groups)[chosen]
    image = colours.reshape(layers, tokens * slots, 3)  # slots side by side within a token
    axes.imshow(image, aspect="auto", interpolation="nearest", extent=(0, tokens, layers, 0))
    axes.set_xticks(np.arange(1, tokens), minor=True)
    axes.set_yticks(np.arange(1, layers), minor=True)
    axes.grid(which="minor", color="white", linewidth=0.8)
    axes.tick_params(which="minor", length=0)
    _label_tokens(axes, trace)
    axes.set_yticks(np.arange(layers) + 0.5, [str(layer) for layer in range(layers)])
    axes.set_ylabel("layer")
    axes.set_title(
        f"Experts of {trace.model_name}: in each cell {slots} groups; "
        "hue is the group, lightness the expert",
        fontsize=9,
    )
    return figure


def attention_heatmap(trace: Trace, layer: int, head: int, hide_first: bool = True) -> Figure:
    """Attention of one head; rows attend to columns."""
    weights = trace.attention(layer, head)
    shown = weights[:, 1:] if hide_first and trace.num_tokens > 1 else weights
    side = min(9, 3 + 0.12 * trace.num_tokens)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    top = float(shown.max()) or 1.0
    tokens = trace.num_tokens
    image = axes.imshow(weights, cmap="Blues", vmin=0, vmax=top, extent=(0, tokens, tokens, 0))
    figure.colorbar(image, ax=axes, label="attention", shrink=0.8)
    _label_tokens(axes, trace)
    if tokens <= LABELLED_TOKENS:
        axes.set_yticks(np.arange(tokens) + 0.5, [_printable(p) for p in trace.pieces], fontsize=7)
    note = "; colours without the first token" if hide_first else ""
    axes.set_title(f"Attention of {trace.model_name}, layer {layer}, head {head}{note}", fontsize=9)
    return figure


def expert_load_bars(trace: Trace, layer: int) -> Figure:
    """Load ratio of each expert of one layer; the line at 1 is uniform routing."""
    frame = expert_load(trace)
    frame = frame[frame["layer"] == layer]
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    axes = figure.subplots()
    colours = expert_colours(trace.num_experts, trace.num_groups)
    axes.bar(frame["expert"], frame["load_ratio"], color=colours)
    axes.axhline(1, color="black", linewidth=0.8, linestyle="--")
    axes.set_xlabel("expert")
    axes.set_ylabel("load ratio")
    axes.set_title(f"Layer {layer}, {trace.num_tokens} tokens; dashed: uniform routing", fontsize=9)
    return figure


def _label_tokens(axes, trace: Trace) -> None:
    if trace.num_tokens <= LABELLED_TOKENS:
        labels = [_printable(piece) for piece in trace.pieces]
        axes.set_xticks(np.arange(trace.num_tokens) + 0.5, labels, rotation=90, fontsize=7)
    else:
        axes.set_xlabel("token")


def _printable(piece: str) -> str:
    """A piece as a label: spaces shown, dollar signs not read as mathematics."""
    return piece.replace(" ", "␣").replace("$", r"\$")

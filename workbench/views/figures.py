"""The matplotlib twins of the widgets: traces in, figures out."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from workbench.analysis import expert_load
from workbench.traces.trace import Trace
from workbench.views.shared.printing import LABELLED_TOKENS, PrintFigure, printable
from workbench.wording import titled


def expert_colours(num_experts: int, num_groups: int) -> np.ndarray:
    """[expert, 3] sRGB: hue tells the group, lightness the expert within it; the widgets use the same.

    Evenly spaced in OKLCH, where equal steps look equal: experts keep their order of lightness in
    every group and for every kind of colour vision.
    """
    size = num_experts // num_groups
    expert = np.arange(num_experts)
    lightness = 0.42 + 0.44 * (expert % size) / max(1, size - 1)
    hue = 2 * np.pi * ((expert // size) / num_groups + 0.07)
    a, b = 0.1 * np.cos(hue), 0.1 * np.sin(hue)
    cube_roots = np.stack([lightness, a, b], -1) @ np.array(
        [[1, 1, 1], [0.3963377774, -0.1055613458, -0.0894841775], [0.2158037573, -0.0638541728, -1.2914855480]]
    )  # fmt: skip
    linear = cube_roots**3 @ np.array(
        [[4.0767416621, -1.2684380046, -0.0041960863], [-3.3077115913, 2.6097574011, -0.7034186147], [0.2309699292, -0.3413193965, 1.7076147010]]
    )  # fmt: skip
    linear = linear.clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def routing_heatmap(trace: Trace) -> Figure:
    """Every token's experts in every layer: one stripe per group, coloured by expert."""
    chosen = np.asarray(trace.selected_experts).astype(int)  # [layer, token, slot]
    layers, tokens, slots = chosen.shape
    figure = PrintFigure(
        figsize=(min(14, 2 + 0.3 * tokens), 1.6 + 0.3 * layers), layout="constrained"
    )
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
        f"Experts of {titled(trace.model_name)}: in each cell {slots} groups; "
        "hue is the group, lightness the expert",
        fontsize=9,
    )
    return figure


def expert_load_bars(trace: Trace, layer: int) -> Figure:
    """Load ratio of each expert of one layer; the line at 1 is uniform routing."""
    frame = expert_load(trace)
    frame = frame[frame["layer"] == layer]
    figure = PrintFigure(figsize=(9, 2.6), layout="constrained")
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
        labels = [printable(piece) for piece in trace.pieces]
        axes.set_xticks(np.arange(trace.num_tokens) + 0.5, labels, rotation=90, fontsize=7)
    else:
        axes.set_xlabel("token")

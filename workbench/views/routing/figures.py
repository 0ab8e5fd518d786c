"""The routing view for print."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from workbench.analysis.exact_tests import uniform_band
from workbench.views.figures import expert_colours
from workbench.views.routing.numbers import Routing
from workbench.views.shared.printing import PrintFigure
from workbench.wording import counted


def routing_figure(routing: Routing, keep: np.ndarray) -> Figure:
    """The routing view for print: the map, one row per group, over the loads of the kept tokens.

    A dot marks a load beyond what uniform routing gives (exact binomial, 95 % for all cells).
    """
    layers, slots, experts, tokens = routing.layers, routing.slots, routing.experts, routing.num_tokens  # fmt: skip
    height = min(4.5, 0.6 + layers * slots * 0.055)
    figure = PrintFigure(figsize=(11, height + min(4, 1.4 + 0.22 * layers)), layout="constrained")
    above, below = figure.subplots(2, height_ratios=[height, min(4, 1.4 + 0.22 * layers)])
    colours = np.round(expert_colours(experts, routing.groups) * 255).astype(np.uint8)
    image = colours[routing.chosen].reshape(tokens, layers * slots, 3).swapaxes(0, 1).copy()
    image[:, ~keep] = 255 - (255 - image[:, ~keep]) // 5  # pale
    if tokens:
        above.imshow(image, aspect="auto", interpolation="nearest", extent=(0, tokens, layers, 0))
    above.hlines(np.arange(1, layers), 0, tokens, color="white", linewidth=0.8)
    for start in routing.starts[1:]:
        above.axvline(start, color="black", linewidth=0.8)
    above.set_yticks(np.arange(layers) + 0.5, [str(layer) for layer in range(layers)], fontsize=7)
    above.set(ylabel="layer", xlabel="token", title="Winners: a row per group; hue is the group, lightness the expert")  # fmt: skip
    count, kept = routing.counts(keep), int(keep.sum())
    low, high = uniform_band(kept, slots / experts, count.size)
    share = below.pcolormesh(count / max(1, kept), cmap="Blues", vmin=0)
    layer, expert = np.nonzero((count < low) | (count > high))
    below.scatter(
        expert + 0.5, layer + 0.5, s=14, color="#d95f02", edgecolor="white", linewidth=0.5
    )
    below.invert_yaxis()
    for border in np.arange(1, routing.groups) * (experts // routing.groups):
        below.axvline(border, color="black", linewidth=0.6)
    bar = figure.colorbar(share, ax=below, label="share of tokens")
    bar.ax.axhline(slots / experts, color="black", linestyle="--")
    below.set_yticks(np.arange(layers) + 0.5, [str(layer) for layer in range(layers)], fontsize=7)
    below.set(xlabel="expert", ylabel="layer")
    below.set_title(
        f"Share of {counted(kept)}; dashed: uniform routing, {slots / experts:.1%}; dot: outside the "
        f"{low} to {high} uses that it would give",
        fontsize=9,
    )
    above.title.set_fontsize(9)
    return figure

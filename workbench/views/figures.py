"""The matplotlib twins of the widgets: traces in, figures out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import LogNorm, Normalize, SymLogNorm
from matplotlib.figure import Figure

from workbench.analysis import expert_load
from workbench.traces.trace import Trace
from workbench.views.attention.maps import BLOCKS, block_size
from workbench.views.shared.printing import PrintFigure
from workbench.wording import titled

if TYPE_CHECKING:
    from workbench.views.attention.view import AttentionView

LABELLED_TOKENS = 60  # more pieces than this cannot be read along an axis


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


def attention_heatmap(
    trace: Trace, layer: int, head: int, sink: int = 1, scale: str = "linear"
) -> Figure:
    """Attention of one head; rows attend to columns, the first `sink` tokens apart."""
    from workbench.views.attention.view import AttentionView  # which draws itself with this file

    return AttentionView(trace, layer=layer, head=head, sink=sink, scale=scale).figure()


def attention_figure(view: AttentionView) -> Figure:
    """The attention view for print: its map, zoomed, scaled and compared as on screen.

    What the first tokens get stands in a column of its own, from 0 to 100 %. A map of more than
    512 tokens is drawn in blocks.
    """
    recorded = view.recorded
    tokens = recorded.num_tokens
    if view.running or not tokens:  # its arrays may grow at any moment
        figure = PrintFigure(figsize=(5, 0.6))
        figure.text(
            0.02, 0.5, f"Attention of {titled(recorded.name)}: still being filled.", va="center"
        )
        return figure
    top, bottom, left, right = view.zoom or [0, tokens, 0, tokens]
    rows, size = np.arange(top, bottom), block_size(max(bottom - top, right - left), BLOCKS)
    compared, parts, apart = view.compare != "none", [], []
    for start in range(top, bottom, size):  # few rows of a long text at a time
        weights, other = view.weights(rows[start - top : start - top + size])
        values = weights if other is None else weights - other  # NaN where the other has no row
        first = values[:, : view.sink].sum(1)
        first = first[np.isfinite(first)]
        apart.append(first.mean() if first.size else np.nan)
        values[np.arange(tokens) > rows[start - top : start - top + size, None]] = np.nan
        values[:, : view.sink] = np.nan
        parts.append(_in_columns(values[:, left:right], size, view.blocks))
    image, apart = np.stack(parts), np.array(apart)[:, None]
    # The last blocks may reach beyond what is shown.
    rows_drawn, end = len(image), top + size * len(image)
    extent = (left, left + size * image.shape[1], end, top)
    side = min(9, 3.5 + 0.12 * (bottom - top))
    figure = PrintFigure(figsize=(side + 1.4, side), layout="constrained")
    ratios = [max(1, 0.03 * rows_drawn), max(1, rows_drawn)] if view.sink else [1]
    drawn = np.atleast_1d(figure.subplots(1, len(ratios), width_ratios=ratios, sharey=True))
    axes = drawn[-1]
    known = image[np.isfinite(image)]
    largest = float(np.abs(known).max()) if known.size and known.any() else 1.0
    label = "attention" + (" difference" if compared else "")
    if view.scale == "row":
        highest = np.nanmax(np.abs(np.where(np.isfinite(image), image, 0)), 1, keepdims=True)
        image, largest = image / np.where(highest, highest, 1), 1.0
        label += ", as a share of the row's strongest"
    if view.scale == "log":
        norm = (
            SymLogNorm(largest / 1e4, vmin=-largest, vmax=largest)
            if compared
            else LogNorm(largest / 1e4, largest, clip=True)
        )
    else:
        norm = Normalize(-largest if compared else 0, largest)
    colours = "RdBu_r" if compared else "Blues"
    picture = axes.imshow(image, cmap=colours, norm=norm, extent=extent, aspect="auto", interpolation="nearest")  # fmt: skip
    figure.colorbar(picture, ax=axes, label=label, shrink=0.8)
    if view.sink:
        first = drawn[0]
        low = -1 if compared else 0
        colours = "PuOr_r" if compared else "Oranges"
        first.imshow(apart, cmap=colours, vmin=low, vmax=1, extent=(0, 1, end, top), aspect="auto", interpolation="nearest")  # fmt: skip
        words = "first\ntoken" if view.sink == 1 else f"first\n{view.sink} tokens"
        first.set_xticks([0.5], [words], fontsize=7)
    axes.set(xlim=(left, right), ylim=(bottom, top))
    for border in [span["start"] for span in recorded.spans[1:]]:
        if top < border < bottom:
            axes.axhline(border, color="black", linewidth=0.7)
        if left < border < right:
            axes.axvline(border, color="black", linewidth=0.7)
    for turn in recorded.turns:
        if top < turn < bottom:
            axes.axhline(turn, color="black", linewidth=0.7, linestyle=":")
        if left < turn < right:
            axes.axvline(turn, color="black", linewidth=0.7, linestyle=":")
    for span in recorded.spans:
        start, end = max(left, span["start"]), min(right, span["end"])
        letters = (end - start) / (right - left) * side * 72 / 5  # of 7 points, about 5 wide
        if letters > len(span["kind"]):
            axes.text(start, top, f" {span['kind']}", va="bottom", fontsize=7)
    labels = [_printable(piece) for piece in recorded.pieces]
    if right - left <= LABELLED_TOKENS:
        places = np.arange(left, right)
        axes.set_xticks(places + 0.5, labels[left:right], rotation=90, fontsize=7)
    if bottom - top <= LABELLED_TOKENS:
        drawn[0].set_yticks(rows + 0.5, labels[top:bottom], fontsize=7)
    turns = "; dotted: a turn begins" if any(recorded.turns) else ""
    axes.set_xlabel(f"attended token{turns}")
    drawn[0].set_ylabel("attending token")
    title = f"Attention of {view.names[0]}, layer {view.layer}, head {view.head}"
    if view.compare == "head":
        title += f", minus layer {view.other_layer}, head {view.other_head}"
    elif view.compare == "trace":
        title += f",\nminus the same head of {view.names[1]}"
    if size > 1:
        how = "strongest" if view.blocks == "max" else "mean"
        title += f"\n{how} weight of blocks of {size} × {size} tokens"
    figure.suptitle(title, fontsize=9)
    return figure


def _in_columns(values: np.ndarray, size: int, how: str) -> np.ndarray:
    """Rows [row, token] as one row of blocks, [block]; NaN where there is no weight."""
    result = np.full(-(-values.shape[1] // size), np.nan, dtype=np.float32)
    for block in range(len(result)):
        part = values[:, block * size : (block + 1) * size]
        part = part[np.isfinite(part)]
        if part.size:
            result[block] = part.mean() if how == "mean" else part[np.abs(part).argmax()]
    return result


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
        labels = [_printable(piece) for piece in trace.pieces]
        axes.set_xticks(np.arange(trace.num_tokens) + 0.5, labels, rotation=90, fontsize=7)
    else:
        axes.set_xlabel("token")


def _printable(piece: str) -> str:
    """A piece as a label: spaces and new lines shown, dollar signs not read as mathematics."""
    return piece.replace(" ", "␣").replace("\n", "⏎").replace("$", r"\$")

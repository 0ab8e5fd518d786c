"""The attention view for print: its map, zoomed, scaled and compared as on screen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize, SymLogNorm
from matplotlib.figure import Figure

from workbench.views.attention.maps import BLOCKS, block_size
from workbench.views.attention.recorded import Recorded
from workbench.views.attention.selection import Selection
from workbench.views.shared.printing import LABELLED_TOKENS, PrintFigure, printable
from workbench.wording import titled


@dataclass(frozen=True)
class Blocks:
    """The part of a map that is shown, in blocks of `size` × `size` tokens.

    Attributes
    ----------
    values : numpy.ndarray
        Weights or differences, [row, column]; NaN where there is none.
    apart : numpy.ndarray
        What the first tokens get, [row, 1].
    top, left : int
        First row and column.
    """

    values: np.ndarray
    apart: np.ndarray
    size: int
    top: int
    left: int

    @property
    def end(self) -> int:
        """Where the last block's rows end, which may be beyond what is shown."""
        return self.top + self.size * len(self.values)

    @property
    def extent(self) -> tuple[int, int, int, int]:
        """Left, right, bottom and top in tokens."""
        return self.left, self.left + self.size * self.values.shape[1], self.end, self.top


def unfilled_figure(recorded: Recorded) -> Figure:
    """In place of a text that has no tokens, or is growing: its arrays may grow at any moment."""
    figure = PrintFigure(figsize=(5, 0.6))
    figure.text(0.02, 0.5, f"Attention of {titled(recorded.name)}: not finished yet.", va="center")
    return figure


def attention_figure(selection: Selection) -> Figure:
    """The map of one head; rows attend to columns.

    What the first tokens get stands in a column of its own, from 0 to 100 %. A map of more than
    512 tokens is drawn in blocks.
    """
    top, bottom, left, right = selection.part
    blocks = _in_blocks(selection)
    side = min(9, 3.5 + 0.12 * (bottom - top))
    figure = PrintFigure(figsize=(side + 1.4, side), layout="constrained")
    rows = len(blocks.values)
    ratios = [max(1, 0.03 * rows), max(1, rows)] if selection.sink else [1]
    drawn = np.atleast_1d(figure.subplots(1, len(ratios), width_ratios=ratios, sharey=True))
    axes = drawn[-1]
    _draw_map(figure, axes, selection, blocks)
    if selection.sink:
        _draw_apart(drawn[0], selection, blocks)
    axes.set(xlim=(left, right), ylim=(bottom, top))
    _draw_borders(axes, selection)
    _name_stretches(axes, selection, side)
    _name_tokens(axes, drawn[0], selection)
    figure.suptitle(_title(selection, blocks.size), fontsize=9)
    return figure


def _in_blocks(selection: Selection) -> Blocks:
    tokens = selection.recorded.num_tokens
    top, bottom, left, right = selection.part
    rows, size = np.arange(top, bottom), block_size(max(bottom - top, right - left), BLOCKS)
    parts, apart = [], []
    for start in range(top, bottom, size):  # few rows of a long text at a time
        block = rows[start - top : start - top + size]
        weights, other = selection.weights(block)
        values = weights if other is None else weights - other  # NaN where the other has no row
        first = values[:, : selection.sink].sum(1)
        first = first[np.isfinite(first)]
        apart.append(first.mean() if first.size else np.nan)
        values[np.arange(tokens) > block[:, None]] = np.nan
        values[:, : selection.sink] = np.nan
        parts.append(_in_columns(values[:, left:right], size, selection.blocks))
    return Blocks(np.stack(parts), np.array(apart)[:, None], size, top, left)


def _in_columns(values: np.ndarray, size: int, how: str) -> np.ndarray:
    """Rows [row, token] as one row of blocks, [block]; NaN where there is no weight."""
    result = np.full(-(-values.shape[1] // size), np.nan, dtype=np.float32)
    for block in range(len(result)):
        part = values[:, block * size : (block + 1) * size]
        part = part[np.isfinite(part)]
        if part.size:
            result[block] = part.mean() if how == "mean" else part[np.abs(part).argmax()]
    return result


def _draw_map(figure: Figure, axes: Axes, selection: Selection, blocks: Blocks) -> None:
    image, compared = blocks.values, selection.compare != "none"
    known = image[np.isfinite(image)]
    largest = float(np.abs(known).max()) if known.size and known.any() else 1.0
    label = "attention" + (" difference" if compared else "")
    if selection.scale == "row":
        highest = np.nanmax(np.abs(np.where(np.isfinite(image), image, 0)), 1, keepdims=True)
        image, largest = image / np.where(highest, highest, 1), 1.0
        label += ", as a share of the row's strongest"
    if selection.scale == "log":
        norm = (
            SymLogNorm(largest / 1e4, vmin=-largest, vmax=largest)
            if compared
            else LogNorm(largest / 1e4, largest, clip=True)
        )
    else:
        norm = Normalize(-largest if compared else 0, largest)
    picture = axes.imshow(
        image,
        cmap="RdBu_r" if compared else "Blues",
        norm=norm,
        extent=blocks.extent,
        aspect="auto",
        interpolation="nearest",
    )
    figure.colorbar(picture, ax=axes, label=label, shrink=0.8)


def _draw_apart(axes: Axes, selection: Selection, blocks: Blocks) -> None:
    """The column of what the first tokens get."""
    compared = selection.compare != "none"
    axes.imshow(
        blocks.apart,
        cmap="PuOr_r" if compared else "Oranges",
        vmin=-1 if compared else 0,
        vmax=1,
        extent=(0, 1, blocks.end, blocks.top),
        aspect="auto",
        interpolation="nearest",
    )
    words = "first\ntoken" if selection.sink == 1 else f"first\n{selection.sink} tokens"
    axes.set_xticks([0.5], [words], fontsize=7)


def _draw_borders(axes: Axes, selection: Selection) -> None:
    """Solid where stretches begin, dotted where turns do."""
    top, bottom, left, right = selection.part
    recorded = selection.recorded
    borders = [(span["start"], "-") for span in recorded.spans[1:]]
    for token, style in [*borders, *((turn, ":") for turn in recorded.turns)]:
        if top < token < bottom:
            axes.axhline(token, color="black", linewidth=0.7, linestyle=style)
        if left < token < right:
            axes.axvline(token, color="black", linewidth=0.7, linestyle=style)


def _name_stretches(axes: Axes, selection: Selection, side: float) -> None:
    """Where their names fit; the map is `side` inches wide."""
    top, _, left, right = selection.part
    for span in selection.recorded.spans:
        start, end = max(left, span["start"]), min(right, span["end"])
        letters = (end - start) / (right - left) * side * 72 / 5  # of 7 points, about 5 wide
        if letters > len(span["kind"]):
            axes.text(start, top, f" {span['kind']}", va="bottom", fontsize=7)


def _name_tokens(axes: Axes, first: Axes, selection: Selection) -> None:
    top, bottom, left, right = selection.part
    recorded = selection.recorded
    labels = [printable(piece) for piece in recorded.pieces]
    if right - left <= LABELLED_TOKENS:
        axes.set_xticks(np.arange(left, right) + 0.5, labels[left:right], rotation=90, fontsize=7)
    if bottom - top <= LABELLED_TOKENS:
        first.set_yticks(np.arange(top, bottom) + 0.5, labels[top:bottom], fontsize=7)
    turns = "; dotted: start of a turn" if any(recorded.turns) else ""
    axes.set_xlabel(f"attended token{turns}")
    first.set_ylabel("attending token")


def _title(selection: Selection, size: int) -> str:
    title = f"Attention of {selection.names[0]}, layer {selection.layer}, head {selection.head}"
    if selection.compare == "head":
        title += f", minus layer {selection.other_layer}, head {selection.other_head}"
    elif selection.compare == "trace":
        title += f",\nminus the same head of {selection.names[1]}"
    if size > 1:
        how = "strongest" if selection.blocks == "max" else "mean"
        title += f"\n{how} weight of blocks of {size} × {size} tokens"
    return title
